// A thread that helps to convert a file: makes the same plan again, and converts the tensors that it is told to.

import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { ConversionBuffers, convertTensor } from '../core/checkpoint/convert.js';
import {
  type ConversionPlan,
  discardingSink,
  openModelCheckpoint,
  planConversion,
  type RandomAccessSink,
  SamebitsError,
} from '../core/index.js';
import { failureOf, type ThreadReply, type ThreadSetup, type ThreadTask } from './convert_messages.js';
import { openShared } from './file_sink.js';
import { locateModel } from './file_source.js';

interface Prepared {
  readonly plan: ConversionPlan;
  readonly sink: RandomAccessSink;
}

/** Its files stay open until the thread ends. */
async function prepare({ sourcePath, options, header, out }: ThreadSetup): Promise<Prepared> {
  const { folder, entry } = await locateModel(sourcePath);
  const model = await openModelCheckpoint(folder, entry);
  const plan = await planConversion(model, options);
  if (Buffer.compare(plan.output.header, header) !== 0) {
    throw new SamebitsError('FILE_UNREADABLE', {
      rule: `${model.name} must not change while it is read`,
      expected: 'the same tensors in every thread',
      got: 'a source that changed since the conversion began',
      fix: 'Wait until the file is complete and start again.',
    });
  }
  return { plan, sink: out ? await openShared(out) : discardingSink };
}

function serve(port: MessagePort, setup: ThreadSetup): void {
  const prepared = prepare(setup);
  const buffers = new ConversionBuffers();
  const reply = (message: ThreadReply) => port.postMessage(message);
  port.on('message', async ({ index }: ThreadTask) => {
    try {
      const { plan, sink } = await prepared;
      const advance = (bytes: number) => reply({ kind: 'advanced', index, bytes });
      const tensor = await convertTensor(plan, plan.tensors[index]!, sink, advance, buffers);
      reply({ kind: 'converted', index, tensor });
    } catch (error) {
      reply({ kind: 'failed', index, failure: failureOf(error) });
    }
  });
}

if (parentPort) serve(parentPort, workerData);
