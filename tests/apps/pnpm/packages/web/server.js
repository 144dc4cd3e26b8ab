"use strict";

const { setTimeout } = require("node:timers/promises");
const fastify = require("fastify")({ forceCloseConnections: "idle" });
const { greeting } = require("goods");

const answer = greeting();
fastify.get("/", async () => answer);
fastify.get("/slow", async () => {
  await setTimeout(6000);
  return answer;
});
fastify.listen({ host: "0.0.0.0", port: Number(process.env.PORT) });

// A second SIGTERM ends the process at once: `once` has removed the handler.
process.once("SIGTERM", async () => {
  console.log("SIGTERM: closing");
  await fastify.close();
  console.log("closed");
});
