"use strict";

const http = require("node:http");

if (!process.env.GREETING) throw new Error("GREETING is not set");

const server = http.createServer((request, response) => {
  const answer = () => response.end(process.env.GREETING);
  if (request.url === "/slow") setTimeout(answer, 6000);
  else answer();
});
server.listen(process.env.PORT, () => console.log("listening"));

process.once("SIGTERM", () => {
  console.log("SIGTERM: closing");
  server.close(() => process.exit(0));
  // A client may keep its connection as long as it sends requests.
  setInterval(() => server.closeIdleConnections(), 100);
});
