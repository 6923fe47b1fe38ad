// Takes the suite through the JavaScript loader in Node: `node node.mjs SUITE LOADER NODE_MODULES`.

import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

import { conformance } from './conformance.mjs';

console.log = console.warn = console.error; // stdout is for the answers
const [suite, loader, modules] = process.argv.slice(2);
const ort = createRequire(`${modules}/`)('onnxruntime-web');
const plan = JSON.parse(await readFile(`${suite}/plan.json`, 'utf8'));
const answers = await conformance(await import(loader), ort, plan, (folder) => `${suite}/${folder}`);
process.stdout.write(`${JSON.stringify(answers)}\n`, () => process.exit()); // threads keep Node running
