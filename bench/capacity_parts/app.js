// A single event loop of Node that sorts and writes JSON: some 3 ms a request. node app.js PORT
"use strict";
const http = require("http");
const rows = Array.from({ length: 2500 }, (_, n) => ({ id: (n * 7919) % 10007, name: `item ${n}`, price: ((n * 31) % 997) / 10 }));
http
  .createServer((_, answer) => {
    const body = JSON.stringify([...rows].sort((a, b) => a.id - b.id).filter((row) => row.price > 40));
    answer.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
    answer.end(body);
  })
  .listen(Number(process.argv[2]), "127.0.0.1");
