"use strict";

const express = require("express");

if (!process.env.GREETING) throw new Error("GREETING is not set");

const app = express();
app.get("/", (request, response) => response.send(process.env.GREETING));
app.get("/slow", (request, response) => {
  setTimeout(() => response.send(process.env.GREETING), 6000);
});

const server = app.listen(process.env.PORT, () => console.log("listening"));

// A second SIGTERM ends the process at once: `once` has removed the handler.
process.once("SIGTERM", () => {
  console.log("SIGTERM: closing");
  server.close(() => {
    console.log("closed");
    process.exit();
  });
  // A client may keep its connection as long as it sends requests.
  setInterval(() => server.closeIdleConnections(), 100);
});
