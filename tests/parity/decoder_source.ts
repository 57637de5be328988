// The decoder that whole steps are tested with.

export { DRAWN_CONFIG, drawDecoderSource } from '../../core/parity/drawn_decoder.js';
