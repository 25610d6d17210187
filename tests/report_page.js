// Opens a report in Chromium as a person would, without a network, and writes what it finds as JSON; started by test_report.py.
//     node report_page.js PAGE.html SCREENSHOTS_FOLDER TIME...
"use strict";
const puppeteer = require("puppeteer-core");

// Runs in the page. What each element shows of itself, so that one can tell whether it changed.
const look = selector => [...document.querySelectorAll(selector)].map(canvas => {
  const small = document.createElement("canvas");
  [small.width, small.height] = [60, 45];
  const pen = small.getContext("2d", { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0, 60, 45);
  return [...pen.getImageData(0, 0, 60, 45).data];
});

// Runs in the page. The number that tests/media.py wrote into each film's picture, null without a video.
const numbers = () => report.films.map(({ video }) => {
  if (!video) return null;
  const canvas = document.createElement("canvas"), bits = 12, block = Math.floor(video.videoWidth / bits);
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const pen = canvas.getContext("2d");
  pen.drawImage(video, 0, 0);
  const white = bit => pen.getImageData((bit + 0.5) * block, block / 2, 1, 1).data[1] > 127;
  return [...Array(bits).keys()].reduce((number, bit) => number + (white(bit) << bit), 0);
});

// Runs in the page. Whether every film shows the picture of the moment's record.
const arrived = () => numbers().every((number, k) => number === null || number === report.runs[k].row(report.state.time));

// Runs in the page. Plays slowly until the second record, and stops; says whether it was still playing then.
const play = () => new Promise(done => {
  document.querySelector("#speed").value = "0.1";
  report.seek(0);
  document.querySelector("#play").click();
  const watch = () => {
    if (report.state.time < report.runs[0].times[1]) return requestAnimationFrame(watch);
    const { playing } = report.state;
    if (playing) document.querySelector("#play").click();
    done(playing);
  };
  watch();
});

async function main(page, folder, times) {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
    protocolTimeout: 1e6,
  });
  const tab = await browser.newPage();
  tab.setDefaultTimeout(600000);
  const found = { errors: [], requests: [], seen: [] };
  tab.on("pageerror", error => found.errors.push(String(error)));
  tab.on("console", message => { if (message.type() === "error") found.errors.push(message.text()); });
  tab.on("request", request => { if (!/^(data|blob|file):/.test(request.url())) found.requests.push(request.url()); });
  await tab.setViewport({ width: 1500, height: 1750 });
  await tab.goto(`file://${page}`);
  await tab.waitForFunction("window.report && report.films.every(f => !f.video || f.video.readyState >= 2)");
  await tab.evaluate(`Object.assign(window, { look: ${look}, numbers: ${numbers}, arrived: ${arrived}, playSlowly: ${play} })`);
  found.notes = await tab.$$eval(".note", notes => notes.map(note => note.textContent));
  found.charts = await tab.$$eval("#charts canvas", charts => charts.map(chart => chart.dataset.title));
  found.table = await tab.$$eval("tr.person", rows => rows.map(row => [...row.children].map(cell => cell.textContent)));
  found.tiles = await tab.$$eval("#sheet img", images => images.map(image => [image.naturalWidth, image.naturalHeight]));
  found.webgl = await tab.evaluate("report.spaces.map(space => Boolean(space.gl))");
  for (const time of times) {
    await tab.evaluate(`report.seek(${time})`);
    await tab.waitForFunction("arrived()");
    found.seen.push(await tab.evaluate(() => ({
      rows: report.runs.map(run => run.row(report.state.time)),
      pictures: numbers(),
      vertices: report.runs.map(run => run.people.map(person => [...(report.vertices(person, run.row(report.state.time)) || [])])),
      spaces: look("canvas.space"),
      charts: look("#charts canvas"),
    })));
  }
  await tab.screenshot({ path: `${folder}/page.png` });
  const box = await (await tab.$("canvas.space")).boundingBox();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  const angle = await tab.evaluate("report.spaces[0].angle[0]");
  await tab.mouse.move(x, y);
  await tab.mouse.down();
  await tab.mouse.move(x + 150, y + 40, { steps: 5 });
  await tab.mouse.up();
  await tab.waitForFunction(`report.spaces[0].angle[0] !== ${angle}`);
  found.turned = await tab.evaluate("look('canvas.space')");
  const distance = await tab.evaluate("report.spaces[0].distance");
  await tab.mouse.wheel({ deltaY: -600 });
  await tab.waitForFunction(`report.spaces[0].distance < ${distance}`);
  found.closer = await tab.evaluate("look('canvas.space')");
  await tab.screenshot({ path: `${folder}/turned.png`, fullPage: true });
  found.played = await tab.evaluate("playSlowly()");
  await tab.focus("#slider");
  await tab.evaluate("report.seek(0)");
  await tab.keyboard.press("ArrowRight");
  found.stepped = await tab.evaluate("report.state.time");
  await tab.click("#sheet figure:nth-child(4)");
  found.jumped = await tab.evaluate("report.state.time");
  await browser.close();
  console.log(JSON.stringify(found));
}

main(process.argv[2], process.argv[3], process.argv.slice(4).map(Number)).catch(error => { console.error(error); process.exit(1); });
