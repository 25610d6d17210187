// Reads an .npz as programs in JavaScript do, by fflate and npyjs, and a CSV by Papa Parse. npyjs_reads.mjs FILE.npz FILE.csv
import fs from "fs";
import { unzipSync } from "fflate";
import npyjs from "npyjs";
import Papa from "papaparse";

const arrays = {};
for (const [name, bytes] of Object.entries(unzipSync(new Uint8Array(fs.readFileSync(process.argv[2]))))) {
  const { shape, data } = await new npyjs().load(bytes.slice().buffer);
  arrays[name.replace(".npy", "")] = { shape, data: Array.from(data, value => (typeof value === "string" ? value : Number(value))) };
}
const table = Papa.parse(fs.readFileSync(process.argv[3], "utf8"), { header: true, dynamicTyping: true, skipEmptyLines: true });
console.log(JSON.stringify({ arrays, rows: table.data.length, fields: table.meta.fields, errors: table.errors, first: table.data[0] ?? null }));
