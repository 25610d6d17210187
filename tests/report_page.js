// Opens a report in Chromium as a person would, without a network, and writes what it finds as JSON; started by test_report.py.
//     node report_page.js PAGE.html SCREENSHOTS_FOLDER TIME...
"use strict";
const puppeteer = require("puppeteer-core");

// What each element shows of itself, so that one can tell whether it changed.
const looks = selector => [...document.querySelectorAll(selector)].map(canvas => {
  const small = document.createElement("canvas");
  [small.width, small.height] = [60, 45];
  const pen = small.getContext("2d", { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0, 60, 45);
  return [...pen.getImageData(0, 0, 60, 45).data];
});

async function main(page, folder, times) {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
  });
  const tab = await browser.newPage();
  const found = { errors: [], requests: [], seen: [] };
  tab.on("pageerror", error => found.errors.push(String(error)));
  tab.on("console", message => { if (message.type() === "error") found.errors.push(message.text()); });
  tab.on("request", request => { if (!/^(data|blob|file):/.test(request.url())) found.requests.push(request.url()); });
  await tab.setViewport({ width: 1500, height: 1750 });
  await tab.goto(`file://${page}`, { timeout: 120000 });
  await tab.waitForFunction("window.report && report.films.every(f => !f.video || f.video.readyState >= 2)", { timeout: 120000 });
  found.notes = await tab.$$eval(".note", notes => notes.map(note => note.textContent));
  found.charts = await tab.$$eval("#charts canvas", charts => charts.map(chart => chart.dataset.title));
  found.table = await tab.$$eval("tr.person", rows => rows.map(row => [...row.children].map(cell => cell.textContent)));
  found.tiles = await tab.$$eval("#sheet img", images => images.map(image => [image.naturalWidth, image.naturalHeight]));
  found.webgl = await tab.evaluate("report.spaces.map(space => Boolean(space.gl))");
  for (const time of times) {
    await tab.evaluate(time => new Promise(done => {
      const videos = report.films.filter(film => film.video).map(film => film.video);
      let waiting = videos.length;
      for (const video of videos) video.requestVideoFrameCallback(() => { if (--waiting === 0) done(); });
      report.seek(time);
      if (!waiting) done();
      setTimeout(done, 3000);
    }), time);
    found.seen.push(await tab.evaluate(looks => {
      const look = eval(looks);
      return {
        rows: report.runs.map(run => run.row(report.state.time)),
        pictures: report.films.map(film => {
          if (!film.video) return null;
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [film.video.videoWidth, film.video.videoHeight];
          const pen = canvas.getContext("2d");
          pen.drawImage(film.video, 0, 0);
          const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
          const grey = [];
          for (let i = 0; i < data.length; i += 4) grey.push(Math.round((data[i] + data[i + 1] + data[i + 2]) / 3));
          return { width: canvas.width, grey };
        }),
        vertices: report.runs.map(run => run.people.map(person => [...(report.vertices(person, run.row(report.state.time)) || [])])),
        spaces: look("canvas.space"),
        charts: look("#charts canvas"),
      };
    }, `(${looks})`));
  }
  await tab.screenshot({ path: `${folder}/page.png` });
  const box = await (await tab.$("canvas.space")).boundingBox();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  await tab.mouse.move(x, y);
  await tab.mouse.down();
  await tab.mouse.move(x + 150, y + 40, { steps: 5 });
  await tab.mouse.up();
  found.turned = await tab.evaluate(looks => eval(looks)("canvas.space"), `(${looks})`);
  await tab.mouse.wheel({ deltaY: -600 });
  await new Promise(done => setTimeout(done, 200));
  found.closer = await tab.evaluate(looks => eval(looks)("canvas.space"), `(${looks})`);
  await tab.screenshot({ path: `${folder}/turned.png`, fullPage: true });
  // It plays, and stops at the end.
  await tab.evaluate("report.seek(0)");
  await tab.click("#play");
  await tab.waitForFunction("report.state.time > 0.1", { timeout: 60000 });
  found.played = await tab.evaluate("report.state.playing");
  await tab.click("#play");
  await new Promise(done => setTimeout(done, 500)); // a frame that is on its way still moves the cursor
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
