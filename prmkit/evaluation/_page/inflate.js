"use strict";
/* Opens a zlib stream (RFC 1950, 1951): for browsers without DecompressionStream. */
function inflate(bytes) {
  let place = 2, held = 0, n_held = 0, out = new Uint8Array(bytes.length * 4), size = 0;
  const bits = (n) => {
    while (n_held < n) { held |= bytes[place++] << n_held; n_held += 8; }
    const value = held & ((1 << n) - 1);
    held >>>= n; n_held -= n;
    return value;
  };
  const push = (byte) => {
    if (size === out.length) { const larger = new Uint8Array(2 * size + 64); larger.set(out); out = larger; }
    out[size++] = byte;
  };
  const codes = (lengths) => {
    const counts = new Uint16Array(16), starts = new Uint16Array(16), symbols = new Uint16Array(lengths.length);
    for (const length of lengths) if (length) counts[length]++;
    for (let n = 1; n < 15; n++) starts[n + 1] = starts[n] + counts[n];
    lengths.forEach((length, symbol) => { if (length) symbols[starts[length]++] = symbol; });
    return { counts, symbols };
  };
  const symbol = ({ counts, symbols }) => {
    for (let n = 1, code = 0, first = 0, index = 0; n < 16; n++) {
      code |= bits(1);
      if (code - first < counts[n]) return symbols[index + code - first];
      index += counts[n];
      first = (first + counts[n]) << 1;
      code <<= 1;
    }
    throw new Error("broken data: no such code");
  };
  const LENGTHS = [3,4,5,6,7,8,9,10,11,13,15,17,19,23,27,31,35,43,51,59,67,83,99,115,131,163,195,227,258];
  const LENGTH_BITS = [0,0,0,0,0,0,0,0,1,1,1,1,2,2,2,2,3,3,3,3,4,4,4,4,5,5,5,5,0];
  const BACKS = [1,2,3,4,5,7,9,13,17,25,33,49,65,97,129,193,257,385,513,769,1025,1537,2049,3073,4097,6145,8193,12289,16385,24577];
  const ORDER = [16,17,18,0,8,7,9,6,10,5,11,4,12,3,13,2,14,1,15];
  for (let last = 0; !last;) {
    last = bits(1);
    const kind = bits(2);
    if (kind === 0) {
      held = n_held = 0;
      const n = bytes[place] | (bytes[place + 1] << 8);
      place += 4;
      for (let i = 0; i < n; i++) push(bytes[place++]);
      continue;
    }
    let lengths = [...Array(288).keys()].map((i) => i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8);
    let backLengths = Array(30).fill(5);
    if (kind === 2) {
      const nLengths = bits(5) + 257, nBacks = bits(5) + 1, nCodes = bits(4) + 4, ofCodes = Array(19).fill(0);
      for (let i = 0; i < nCodes; i++) ofCodes[ORDER[i]] = bits(3);
      const coded = codes(ofCodes), all = [];
      while (all.length < nLengths + nBacks) {
        const value = symbol(coded);
        if (value < 16) all.push(value);
        else {
          const repeated = value === 16 ? all[all.length - 1] : 0;
          const n = value === 16 ? 3 + bits(2) : value === 17 ? 3 + bits(3) : 11 + bits(7);
          for (let i = 0; i < n; i++) all.push(repeated);
        }
      }
      lengths = all.slice(0, nLengths);
      backLengths = all.slice(nLengths);
    }
    const literals = codes(lengths), backs = codes(backLengths);
    for (let value; (value = symbol(literals)) !== 256;) {
      if (value < 256) { push(value); continue; }
      const n = LENGTHS[value - 257] + bits(LENGTH_BITS[value - 257]);
      const far = symbol(backs), back = BACKS[far] + bits(far < 2 ? 0 : (far >> 1) - 1);
      for (let i = 0; i < n; i++) push(out[size - back]);
    }
  }
  return out.subarray(0, size);
}
