// GET one URL through an HTTP proxy with Node's own clients: client.js MODE PROXY URL.
//   forward  http.request with the whole URL as its path
//   tunnel   http.request with method CONNECT, then a request over its socket
//   fetch    the built-in fetch, which takes the proxy from the environment
// Prints the status, the Host that the target saw, and the body.
'use strict';
const http = require('node:http');

const [mode, proxy, url] = process.argv.slice(2);
const door = new URL(proxy);
const target = new URL(url);

function show(response) {
  let body = '';
  response.setEncoding('utf8');
  response.on('data', (piece) => { body += piece; });
  response.on('end', () => process.stdout.write(`${response.statusCode} ${response.headers['x-host']} ${body}`));
}

function forward() {
  http.get({ host: door.hostname, port: door.port, path: url, headers: { Host: target.host }, agent: false }, show);
}

function tunnel() {
  const authority = `${target.hostname}:${target.port || 80}`;
  const asked = http.request({ host: door.hostname, port: door.port, method: 'CONNECT', path: authority, agent: false });
  asked.on('connect', (response, socket) => {
    if (response.statusCode !== 200) throw new Error(`CONNECT was answered with ${response.statusCode}`);
    const headers = { Host: target.host };
    http.get({ path: target.pathname, headers, createConnection: () => socket }, show);
  });
  asked.end();
}

async function byFetch() {
  const response = await fetch(url);
  process.stdout.write(`${response.status} ${response.headers.get('x-host')} ${await response.text()}`);
}

({ forward, tunnel, fetch: byFetch })[mode]();
