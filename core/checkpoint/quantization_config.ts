// What config.json or quantize_config.json says of how a model was quantized.

import type { ModelCheckpoint } from './model_checkpoint.js';
import { isJsonObject, type JsonObject, type JsonValue } from './strict_json.js';

/** `quantization_config` of config.json, else quantize_config.json; undefined when there is neither. */
export function quantizationConfig(model: ModelCheckpoint): JsonObject | undefined {
  const text = model.config.get('text_config');
  const nested =
    model.config.get('quantization_config') ?? (isJsonObject(text) ? text.get('quantization_config') : undefined);
  if (isJsonObject(nested)) return nested;
  return model.quantizeConfig.size > 0 ? model.quantizeConfig : undefined;
}

/** The first of several spellings of a setting that is there. */
export function setting(config: JsonObject, ...keys: readonly string[]): JsonValue | undefined {
  for (const key of keys) {
    const value = config.get(key);
    if (value !== undefined && value !== null) return value;
  }
  return undefined;
}
