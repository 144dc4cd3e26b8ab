'use strict';
// Does a job every few seconds.

const fs = require('node:fs');

const version = fs.readFileSync('VERSION', 'utf8').trim();
let done = 0;

const timer = setInterval(() => {
  done += 1;
  console.log(`${version} did job ${done}`);
}, 5000);

process.on('SIGTERM', () => {
  clearInterval(timer);
  console.log(`${version} finished its job and ends`);
});
