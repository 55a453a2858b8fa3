// What is packed into this file, which is small for it: the style, the words in every language, and the
// scripts that draw. What computes is written out at the end of the page. The policy above knows the hash of
// every script and style, so no other can take effect. A browser's own DecompressionStream would hand its
// result over only after the first picture, so the page unpacks by itself.

// Deflated bytes as they were: RFC 1951.
function inflate(bytes) {
  let out = new Uint8Array(4 * bytes.length + 1), // it grows when it is full
    end = 0,
    at = 0, // the next byte
    held = 0, // bits that were read and not used, the first one lowest
    count = 0; // how many
  const put = byte => {
    if (end === out.length) {
      const full = out;
      out = new Uint8Array(2 * end);
      out.set(full);
    }
    out[end++] = byte;
  };
  const ask = n => {
    for (; count < n; count += 8) held |= bytes[at++] << count;
    return held & ((1 << n) - 1);
  };
  const drop = n => {
    held >>>= n;
    count -= n;
  };
  const bits = n => {
    const value = ask(n);
    drop(n);
    return value;
  };
  // A code from the length of each symbol's word. Words of one length are numbers in order; their first bit
  // is read first. Its table has 16 * symbol + length for a word with whatever bits follow it.
  const code = lengths => {
    const longest = Math.max(...lengths),
      table = new Uint16Array(1 << longest);
    for (let length = 1, word = 0; length <= longest; length++, word *= 2) {
      for (let symbol = lengths.indexOf(length); symbol >= 0; symbol = lengths.indexOf(length, symbol + 1)) {
        let first = 0;
        for (let bit = 0; bit < length; bit++) first = 2 * first + ((word >> bit) & 1);
        for (; first < table.length; first += 1 << length) table[first] = 16 * symbol + length;
        word++;
      }
    }
    return { table, longest };
  };
  const symbol = ({ table, longest }) => {
    const entry = table[ask(longest)];
    if (!entry) throw new Error("inflate: no such code");
    drop(entry % 16);
    return entry >> 4;
  };
  const number = ([base, extra], n) => base[n] + bits(extra[n]);
  // Numbers in groups: each begins where the one before ends; its members are told apart by extra bits.
  const groups = (first, extra) => [
    extra.map((_, n) => extra.slice(0, n).reduce((sum, e) => sum + 2 ** e, first)),
    extra,
  ];
  const times = (n, ...values) => values.flatMap(value => Array(n).fill(value));
  const LENGTHS = groups(3, [0, 0, 0, 0, ...times(4, 0, 1, 2, 3, 4, 5)]);
  LENGTHS[0][28] = 258;
  LENGTHS[1][28] = 0;
  const DISTANCES = groups(1, [0, 0, ...times(2, ...Array(14).keys())]);
  const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

  const fixed = () => [[...times(144, 8), ...times(112, 9), ...times(24, 7), ...times(8, 8)], times(30, 5)];
  const dynamic = () => {
    const [literals, distances, codes] = [257 + bits(5), 1 + bits(5), 4 + bits(4)],
      own = Array(19).fill(0),
      lengths = [];
    for (const place of ORDER.slice(0, codes)) own[place] = bits(3);
    const words = code(own);
    while (lengths.length < literals + distances) {
      const n = symbol(words);
      if (n < 16) lengths.push(n);
      else if (n === 16) lengths.push(...times(3 + bits(2), lengths.at(-1)));
      else lengths.push(...times(n === 17 ? 3 + bits(3) : 11 + bits(7), 0));
    }
    return [lengths.slice(0, literals), lengths.slice(literals)];
  };
  const stored = () => {
    at -= count >> 3; // it begins at a whole byte
    held = count = 0;
    const length = bits(16);
    at += 2; // the length once more, inverted
    for (const stop = at + length; at < stop;) put(bytes[at++]);
  };

  for (let isLast = false; !isLast;) {
    isLast = bits(1) === 1;
    const kind = bits(2);
    if (kind === 0) {
      stored();
      continue;
    }
    const [literals, distances] = (kind === 1 ? fixed() : dynamic()).map(code);
    for (let n; (n = symbol(literals)) !== 256;) {
      if (n < 256) {
        put(n);
        continue;
      }
      const length = number(LENGTHS, n - 257),
        back = number(DISTANCES, symbol(distances));
      for (let i = 0; i < length; i++) put(out[end - back]);
    }
  }
  return out.subarray(0, end);
}

function addPart(tag, content) {
  const node = document.createElement(tag);
  node.textContent = content;
  document.head.append(node);
}

// {style, data, scripts}
const PACKED = (() => {
  const text = atob(document.getElementById("packed").textContent),
    bytes = new Uint8Array(text.length);
  for (let n = 0; n < bytes.length; n++) bytes[n] = text.charCodeAt(n);
  return JSON.parse(new TextDecoder().decode(inflate(bytes)));
})();
addPart("style", PACKED.style);
