// From decoded pixels to the bytes that the model sees: over white, centre square, antialiased bilinear to its size.
//
// Byte for byte what Pillow gives (alpha_composite, then resize with BILINEAR), because its integer arithmetic is
// repeated: libImaging/AlphaComposite.c and libImaging/Resample.c. No dependency; for Node and the browser.
// For input shapes that are not square some bytes may differ by one: Pillow may resize columns before rows.

const PRECISION_BITS = 22; // Pillow's: the sum of weighted bytes stays below 2**31

/**
 * Return the model's input for an upright image of width * height * 4 bytes with straight alpha. `shape` is the model's
 * `input.shape`, ["batch", height, width, 3]; the result has height * width * 3 bytes, RGB, row by row.
 */
export function toModelInput({ width, height, data }, shape) {
  const side = Math.min(width, height);
  const square = centreSquare(width, height, data);
  return scaledAndTransposed(scaledAndTransposed(square, side, side, shape[2]), side, shape[2], shape[1]);
}

/** Return the middle of the picture laid over white, side * side * 3; a spare column or row stays right or below. */
function centreSquare(width, height, rgba) {
  const side = Math.min(width, height);
  const [left, top] = [(width - side) >> 1, (height - side) >> 1];
  const square = new Uint8Array(side * side * 3);
  let to = 0;
  for (let y = top; y < top + side; y++) {
    for (let from = (y * width + left) * 4; from < (y * width + left + side) * 4; from += 4) {
      for (let c = 0; c < 3; c++) square[to++] = overWhite(rgba[from + c], rgba[from + 3]);
    }
  }
  return square;
}

function overWhite(color, alpha) {
  const sum = (color * alpha + 255 * (255 - alpha) + 128) * 128; // 7 bits below the point, and a half
  return ((sum >> 8) + sum) >> 15; // divided by 255, and those bits dropped
}

/** Scale each row of a picture to `length`, and return it transposed: done twice, it is scaled and upright again. */
function scaledAndTransposed(pixels, width, height, length) {
  const scaled = new Uint8Array(length * height * 3);
  let to = 0;
  for (const { first, weights } of taps(width, length)) {
    for (let y = 0; y < height; y++) {
      for (let c = 0; c < 3; c++) {
        let sum = 1 << (PRECISION_BITS - 1);
        let from = (y * width + first) * 3 + c;
        for (let tap = 0; tap < weights.length; tap++, from += 3) sum += weights[tap] * pixels[from];
        scaled[to++] = sum >> PRECISION_BITS;
      }
    }
  }
  return scaled;
}

/** Return for each of `length` places the first pixel under its triangle and the integer weights from there on. */
function taps(width, length) {
  const scale = width / length;
  const support = Math.max(scale, 1); // half the triangle's base: wider than one pixel when shrinking
  return Array.from({ length }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support + 0.5), width);
    const heights = Array.from({ length: end - first }, (_, tap) =>
      Math.max(1 - Math.abs((first + tap - centre + 0.5) * (1 / support)), 0),
    );
    const total = heights.reduce((sum, height) => sum + height, 0);
    return { first, weights: heights.map((height) => Math.trunc(0.5 + (height / total) * 2 ** PRECISION_BITS)) };
  });
}
