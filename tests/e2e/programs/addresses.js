// A line for each name: the name, then its addresses, or why there are none.
// addresses.js lookup|resolve NAME...: by libc (dns.lookup), or by Node's own resolver (c-ares).
const dns = require("node:dns").promises;

const nothing = (error) => {
  if (["ENOTFOUND", "ENODATA"].includes(error.code)) return [];
  throw error;
};
const ways = {
  lookup: async (name) => (await dns.lookup(name, { all: true }).catch(nothing)).map((each) => each.address),
  resolve: async (name) => [
    ...(await dns.resolve4(name).catch(nothing)),
    ...(await dns.resolve6(name).catch(nothing)),
  ],
};

(async () => {
  const [way, ...names] = process.argv.slice(2);
  for (const name of names) {
    const found = await ways[way](name);
    console.log([name, ...(found.length ? found : ["unknown"])].join(" "));
  }
})();
