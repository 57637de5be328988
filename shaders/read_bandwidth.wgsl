// read_bandwidth: reads memory and does nothing else; the roof that the benchmark measures against.
//
// Math:     the exclusive or of all words a lane reads.
// Layout:   data u32[4 * vectors], sink u32[1].
// Threads:  a workgroup reads LOADS * 256 consecutive vectors, a lane every 256th of them, 16 bytes a load.
// Traffic:  reads 16 bytes a vector; writes nothing, because no data holds the pattern that would be written.
// Numerics: none.
// Limits:   one buffer of up to the device's binding size a dispatch.

const THREADS = 256u;
const LOADS = 16u;

struct Params {
  vectors: u32,
  /// What the exclusive or never is. Only the caller knows, so the loads cannot be removed.
  never: u32,
}

@group(0) @binding(0) var<storage, read> data: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> sink: array<u32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(THREADS)
fn read_bandwidth(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let first = (workgroup.y * workgroups.x + workgroup.x) * THREADS * LOADS + lane;
  var seen = vec4(0u);
  for (var i = 0u; i < LOADS; i++) {
    let index = first + i * THREADS;
    if index < p.vectors {
      seen ^= data[index];
    }
  }
  if (seen.x ^ seen.y ^ seen.z ^ seen.w) == p.never {
    sink[0] = seen.x;
  }
}
