// The connection to the store: one channel, and calls that are made again while nobody knows how they ended.
// Knows no runner and no agent.
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import {
  create, fromBinary, toBinary, type DescMessage, type DescMethod, type DescMethodBiDiStreaming, type DescMethodUnary,
  type MessageInitShape, type MessageShape,
} from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Client, credentials, Metadata, status, type ClientDuplexStream, type ServiceError } from "@grpc/grpc-js";

const CALL_MS = 10_000;
const MESSAGE_BYTES = 32 * 1024 * 1024; // the store takes 16 MiB, and answers with it and more
const DEFAULT_PORT = "4747";
const UNEXPLAINED_TRIES = 5;
const CHANNEL_OPTIONS = {
  "grpc.service_config": readFileSync(new URL("../service_config.json", import.meta.url), "utf8"),
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 2000, // two minutes by default; a store that restarts is back in seconds
  "grpc.max_receive_message_length": MESSAGE_BYTES,
  "grpc.max_send_message_length": MESSAGE_BYTES,
};
const UNKNOWN_OUTCOMES = new Set([status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.CANCELLED]);
// Of gRPC itself: as it is to a store that stops in that moment, and to a message that cannot be read.
const UNEXPLAINED = new Set([status.UNKNOWN, status.INTERNAL]);
const WORTH_REPEATING = new Set(["STORAGE_UNAVAILABLE", "SERVER_DRAINING"]);

export interface CallOptions {
  /** Ends the call, and its repetition. */
  signal?: AbortSignal;
  /** How long one call may take. Absent: 10 s. */
  timeoutMs?: number;
}

/** A call that was refused, or that was not answered. */
export class StoreError extends Error {
  override readonly name = "StoreError";

  constructor(
    message: string,
    readonly code: status,
    /** The `ErrorReason`, without its prefix. Empty: the store did not answer, or gave none. */
    readonly reason: string,
  ) {
    super(message);
  }

  /** Whether the call may be made again: nobody knows how it ended, or the store asks for it. */
  get mayRepeat(): boolean {
    return this.reason ? WORTH_REPEATING.has(this.reason) : UNKNOWN_OUTCOMES.has(this.code);
  }

  /** Whether gRPC itself ended the call, for whatever reason. */
  get isUnexplained(): boolean {
    return !this.reason && UNEXPLAINED.has(this.code);
  }

  static of(error: ServiceError): StoreError {
    const reason = reasonOf(error);
    return new StoreError(`${reason || status[error.code]}: ${error.details}`, error.code, reason);
  }
}

/** The pauses between calls that are made again: 0.1 s, each 1.6 times longer up to 2 s, give or take a fifth. */
export class Backoff {
  #nextMs = 100;

  async wait(signal?: AbortSignal): Promise<void> {
    const ms = this.#nextMs * (0.8 + 0.4 * Math.random());
    this.#nextMs = Math.min(this.#nextMs * 1.6, 2000);
    await delay(ms, undefined, signal && { signal });
  }

  reset(): void {
    this.#nextMs = 100;
  }
}

/** The gRPC target of an address, and whether it is reached over TLS. */
export function parseAddress(address: string): { target: string; secure: boolean } {
  const [, scheme = "grpc", rest = ""] = /^(?:(\w+):\/\/)?(.*?)\/?$/.exec(address) ?? [];
  const [, host, port = DEFAULT_PORT] = /^([^\s/:@[\]]+|\[[\da-fA-F:.]+\])(?::(\d+))?$/.exec(rest) ?? [];
  const known = /^(grpc|http)s?$/i.test(scheme);
  if (known && host && Number(port) < 2 ** 16) return { target: `${host}:${port}`, secure: /s$/i.test(scheme) };
  throw new Error(
    `the store's address is '${address}': write host:port, or that after grpc://, http://, grpcs:// or https://`,
  );
}

/** A store, by its address: `localhost:4747`, with or without a scheme; `grpcs://` and `https://` mean TLS. */
export class Store {
  readonly #client: Client;

  constructor(address: string) {
    const { target, secure } = parseAddress(address);
    this.#client = new Client(target, secure ? credentials.createSsl() : credentials.createInsecure(), CHANNEL_OPTIONS);
  }

  /** Makes a call once. Waits for the store to be there, as long as a call may take. */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>, request: MessageInitShape<I>, options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    const bytes = toBinary(method.input, create(method.input, request));
    return fromBinary(method.output, await this.send(pathOf(method), bytes, options));
  }

  /** Makes a call again until it is known how it ended, however long the store is away. */
  async settle<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>, request: MessageInitShape<I>, options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    return repeated(() => this.call(method, request, options), options.signal);
  }

  /** Sends and returns a message as bytes. */
  send(path: string, message: Uint8Array, { signal, timeoutMs = CALL_MS }: CallOptions = {}): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const cancel = () => call.cancel();
      const call = this.#client.makeUnaryRequest(
        path, Buffer.from, (answer: Buffer) => answer, message, whenReady(), { deadline: Date.now() + timeoutMs },
        (error, answer) => {
          signal?.removeEventListener("abort", cancel);
          if (answer) resolve(answer);
          else reject(signal?.aborted ? signal.reason : StoreError.of(error!));
        },
      );
      signal?.addEventListener("abort", cancel, { once: true });
    });
  }

  /** Opens a stream both ways. */
  open<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
  ): ClientDuplexStream<MessageInitShape<I>, MessageShape<O>> {
    const encode = (message: MessageInitShape<I>) => Buffer.from(toBinary(method.input, create(method.input, message)));
    return this.#client.makeBidiStreamRequest(
      pathOf(method), encode, (bytes) => fromBinary(method.output, bytes), whenReady(),
    );
  }

  /** Whether the store is there, or comes within so long. */
  ready(timeoutMs: number): Promise<boolean> {
    return new Promise((resolve) => this.#client.waitForReady(Date.now() + timeoutMs, (error) => resolve(!error)));
  }

  close(): void {
    this.#client.close();
  }
}

/** What a call answers, made again until it is known how it ended. */
export async function repeated<T>(call: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  let unexplained = 0;
  for (const backoff = new Backoff(); ; await backoff.wait(signal)) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      if (error.mayRepeat) unexplained = 0;
      else if (!error.isUnexplained || ++unexplained > UNEXPLAINED_TRIES) throw error;
    }
  }
}

function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

// grpc-js reads this from the call alone, not from a service config.
function whenReady(): Metadata {
  return new Metadata({ waitForReady: true });
}

/** The reason in `google.rpc.Status.details`, read by field numbers: its stubs would be a package for three fields. */
function reasonOf(error: ServiceError): string {
  const [details] = error.metadata?.get("grpc-status-details-bin") ?? [];
  for (const detail of details ? fieldsOf(Buffer.from(details)).get(3) ?? [] : []) {
    const any = fieldsOf(detail);
    if (!text(any.get(1)).endsWith("/google.rpc.ErrorInfo")) continue;
    const info = fieldsOf(any.get(2)?.[0] ?? new Uint8Array());
    if (text(info.get(2)) === "agentlightning") return text(info.get(1));
  }
  return "";
}

function fieldsOf(message: Uint8Array): Map<number, Uint8Array[]> {
  const fields = new Map<number, Uint8Array[]>();
  for (const reader = new BinaryReader(message); reader.pos < reader.len; ) {
    const [number, type] = reader.tag();
    if (type === WireType.LengthDelimited) fields.set(number, [...(fields.get(number) ?? []), reader.bytes()]);
    else reader.skip(type, number);
  }
  return fields;
}

function text(values: Uint8Array[] | undefined): string {
  return Buffer.from(values?.[0] ?? []).toString();
}
