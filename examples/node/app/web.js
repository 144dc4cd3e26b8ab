'use strict';
// Serves one page that names the release, and /health.

const fs = require('node:fs');
const http = require('node:http');

const version = fs.readFileSync('VERSION', 'utf8').trim();
const greeting = process.env.GREETING || 'Hello from';
const pages = { '/': `${greeting} ${version}\n`, '/health': 'ok\n' };

const server = http.createServer((request, response) => {
  const page = pages[request.url];
  const body = page || 'no such page\n';
  response.writeHead(page ? 200 : 404, {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': Buffer.byteLength(body),
  });
  response.end(body);
});

server.listen(process.env.PORT || 5000, '0.0.0.0', () => {
  console.log(`${version} listens on port ${server.address().port}`);
});

process.on('SIGTERM', () => {
  // Requests under way are answered; connections that only wait are closed.
  server.close(() => console.log(`${version} has answered everyone and ends`));
  server.closeIdleConnections();
});
