// Calls of the npm package grpc-web as a page makes them, under node. Arguments: the URL, and the form (text or binary).
// Prints one JSON object: what each call came to.
'use strict';
globalThis.XMLHttpRequest = require('xhr2').XMLHttpRequest;
const {GrpcWebClientBase, MethodDescriptor, MethodType} = require('grpc-web');

const [url, format] = process.argv.slice(2);
const client = new GrpcWebClientBase({format});
const bytes = (text) => new TextEncoder().encode(text);
const text = (read) => new TextDecoder().decode(read);

function descriptor(name, type) {
  return new MethodDescriptor(`/pingap.test.Peer/${name}`, type, String, String, bytes, text);
}

function unary(name, message, metadata = {}) {
  return new Promise((resolve) => {
    const seen = {};
    const call = client.rpcCall(
        `${url}/pingap.test.Peer/${name}`, message, metadata, descriptor(name, MethodType.UNARY), (error, answer) => {
          Object.assign(seen, error ? {code: error.code, message: error.message} : {answer});
          setTimeout(() => resolve(seen), 0);
        });
    call.on('metadata', (metadata) => { seen.initial = metadata['x-initial']; });
    call.on('status', (status) => {
      seen.status = status.code;
      seen.trailing = (status.metadata || {})['x-trailing'];
    });
  });
}

function streaming(name, message, metadata = {}) {
  return new Promise((resolve) => {
    const seen = {messages: []};
    const call =
        client.serverStreaming(`${url}/pingap.test.Peer/${name}`, message, metadata, descriptor(name, MethodType.SERVER_STREAMING));
    const finish = () => setTimeout(() => resolve(seen), 0);
    call.on('data', (answer) => seen.messages.push(answer));
    call.on('status', (status) => {
      seen.status = status.code;
      seen.trailing = (status.metadata || {})['x-trailing'];
    });
    call.on('error', (error) => {
      Object.assign(seen, {code: error.code, message: error.message});
      finish();
    });
    call.on('end', finish);
  });
}

async function main() {
  console.log(JSON.stringify({
    echo: await unary('Echo', 'grüß dich'),
    fail: await unary('Fail', 'nicht möglich', {code: '7'}),
    unknown: await unary('Nothing', 'x'),
    count: format === 'text' ? await streaming('Count', '5') : null,
    failLate: format === 'text' ? await streaming('FailLate', 'enough', {code: '9'}) : null,
    nowhere: await unary('Nowhere', 'x'),
  }));
}

main();
