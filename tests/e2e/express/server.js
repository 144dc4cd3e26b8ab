"use strict";

require("core-js/actual");
const { formatISO } = require("date-fns");
const express = require("express");
const lodash = require("lodash");
const { map, of } = require("rxjs");

const shop = express();
shop.get("/", (request, response) => {
  of(["tea", "coffee", "tea"])
    .pipe(map(lodash.uniq))
    .subscribe((goods) => {
      response.json({
        greeting: process.env.GREETING,
        release: process.env.DEPLOY_RELEASE,
        node: process.versions.node,
        day: formatISO(0, { representation: "date" }),
        pid: process.pid,
        goods,
      });
    });
});
shop.get("/health", (request, response) => response.sendStatus(204));
shop.get("/crash", () => process.exit(7));
shop.listen(process.env.PORT, () => console.log(`listening on ${process.env.PORT}`));
