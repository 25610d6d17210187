// Runs the npm package @tensorflow-models/posenet on pictures of 385 x 385 px; started by posenet_golden.py, which says why.
// usage: node posenet_golden.js MODEL.json PICTURES.json, in a folder with node_modules. Prints one JSON list to stdout.
const fs = require('fs');
const path = require('path');
const {createRequire} = require('module');
const need = createRequire(path.join(process.cwd(), 'package.json'));
const tf = need('@tensorflow/tfjs');
const wasm = need('@tensorflow/tfjs-backend-wasm');
const {MobileNet} = need('@tensorflow-models/posenet/dist/mobilenet');
const {PoseNet} = need('@tensorflow-models/posenet/dist/posenet_model');

const SIZE = 385;
const STRIDE = 16;

async function load(file) {
  const model = JSON.parse(fs.readFileSync(file));
  const bytes = fs.readFileSync(path.join(path.dirname(file), model.weightsManifest[0].paths[0]));
  const graph = await tf.loadGraphModel(tf.io.fromMemory({
    modelTopology: model.modelTopology,
    signature: model.signature,
    weightSpecs: model.weightsManifest[0].weights,
    weightData: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength),
  }));
  // The packaged graph names its outputs; PoseNet takes them by place, from a graph without a fixed input size.
  const names = ['offset', 'heatmap', 'displacement_fwd', 'displacement_bwd'].map(n => `MobilenetV1/${n}_2/BiasAdd:0`);
  return {inputs: [{shape: [1, -1, -1, 3]}], predict: x => graph.execute(x, names), dispose: () => graph.dispose()};
}

const plain = pose => ({
  score: pose.score,
  keypoints: pose.keypoints.map(k => [k.position.x, k.position.y, k.score]),
});

(async () => {
  wasm.setWasmPaths(path.join(process.cwd(), 'node_modules/@tensorflow/tfjs-backend-wasm/dist/'));
  await tf.setBackend('wasm');
  const net = new PoseNet(new MobileNet(await load(process.argv[2]), STRIDE), [SIZE, SIZE]);
  const results = [];
  for (const file of JSON.parse(fs.readFileSync(process.argv[3]))) {
    const image = tf.tensor3d(new Uint8Array(fs.readFileSync(file)), [SIZE, SIZE, 3], 'int32');
    results.push({
      single: plain(await net.estimateSinglePose(image)),
      multi: (await net.estimateMultiplePoses(image)).map(plain),
    });
    image.dispose();
  }
  process.stdout.write(JSON.stringify(results));
})();
