// Draws an animated GLB with three.js in Chromium; started by test_export_readers.py.
//     node three_draws.js URL MODEL CAMERA FOLDER TIME...
// URL serves the model and the package three; CAMERA is JSON: width, height, fx, fy, cx, cy. The pictures 0.png ... go to the folder,
// with nothing but the body in them; what is written is JSON: the vertices at each time.
"use strict";
const fs = require("fs");
const puppeteer = require("puppeteer-core");

const IMPORTS = { three: "./node_modules/three/build/three.module.js", "three/addons/": "./node_modules/three/examples/jsm/" };

// Runs in the page. Shows the model as the camera sees it, which stands in the origin.
async function show(model, { width, height, fx, fy, cx, cy }) {
  const THREE = await import("three");
  const { GLTFLoader } = await import("three/addons/loaders/GLTFLoader.js");
  const { scene, animations } = await new GLTFLoader().loadAsync(model);
  let mesh;
  scene.traverse(node => { if (node.isSkinnedMesh) mesh = node; });
  const mixer = new THREE.AnimationMixer(scene), movement = mixer.clipAction(animations[0]);
  movement.setLoop(THREE.LoopOnce).clampWhenFinished = true;
  movement.play();
  scene.add(new THREE.AmbientLight(), new THREE.DirectionalLight());
  const camera = new THREE.PerspectiveCamera(2 * Math.atan(height / 2 / fy) * 180 / Math.PI, (width / fx) / (height / fy), 0.1, 100);
  camera.setViewOffset(width, height, (width - 1) / 2 - cx, (height - 1) / 2 - cy, width, height);
  const renderer = new THREE.WebGLRenderer({ alpha: true });
  renderer.setSize(width, height);
  document.body.replaceChildren(renderer.domElement);

  window.at = time => {
    mixer.setTime(time);
    renderer.render(scene, camera);
    const picture = renderer.domElement.toDataURL();
    const vertices = [];
    for (let i = 0; i < mesh.geometry.attributes.position.count; i++)
      vertices.push(mesh.localToWorld(mesh.getVertexPosition(i, new THREE.Vector3())).toArray());
    return { picture, vertices };
  };
}

async function main(url, model, camera, folder, times) {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
    protocolTimeout: 1e6,
  });
  const tab = await browser.newPage();
  await tab.goto(url);
  await tab.setContent(`<script type="importmap">${JSON.stringify({ imports: IMPORTS })}</script>`);
  await tab.evaluate(show, model, camera);
  const shapes = [];
  for (const [number, time] of times.entries()) {
    const { picture, vertices } = await tab.evaluate(time => at(time), time);
    fs.writeFileSync(`${folder}/${number}.png`, Buffer.from(picture.split(",")[1], "base64"));
    shapes.push(vertices);
  }
  await browser.close();
  console.log(JSON.stringify(shapes));
}

const [url, model, camera, folder, ...times] = process.argv.slice(2);
main(url, model, JSON.parse(camera), folder, times.map(Number)).catch(error => { console.error(error); process.exit(1); });
