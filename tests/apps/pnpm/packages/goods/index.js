"use strict";

exports.greeting = () => {
  if (!process.env.GREETING) throw new Error("GREETING is not set");
  return process.env.GREETING;
};
