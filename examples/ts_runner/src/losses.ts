// Hears at once of attempts that are lost, cancelled ones above all: a StreamDequeue that claims nothing.
import { setTimeout as delay } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { ClientDuplexStream } from "@grpc/grpc-js";
import type { AttemptRef } from "./attempt.js";
import {
  StoreService, type StreamDequeueRequestSchema, type StreamDequeueResponse,
} from "./gen/agentlightning/v1/store_service_pb.js";
import type { Lost } from "./heartbeats.js";
import { Backoff, type Store } from "./store.js";

const CLOSE_MS = 1000;

type Stream = ClientDuplexStream<MessageInitShape<typeof StreamDequeueRequestSchema>, StreamDequeueResponse>;

/** A stream that tells of losses, opened again whenever it ends. */
export class Losses {
  readonly #closing = new AbortController();
  readonly #backoff = new Backoff();
  readonly #listening: Promise<void>;
  #stream: Stream | undefined;

  /**
   * @param held The attempts that are held when a stream is opened.
   */
  constructor(
    readonly store: Store,
    readonly opening: { workerId: string; queue: string },
    readonly held: () => AttemptRef[],
    readonly onLost: (lost: Lost) => void,
  ) {
    this.#listening = this.#listen();
  }

  /** Hears of this attempt too. */
  hold(attempt: AttemptRef): void {
    this.#stream?.write({ message: { case: "hold", value: attempt } });
  }

  async close(): Promise<void> {
    const stream = this.#stream;
    this.#closing.abort();
    stream?.end();
    const stuck = setTimeout(() => stream?.cancel(), CLOSE_MS);
    await this.#listening;
    clearTimeout(stuck);
  }

  async #listen(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      const pauseMs = await this.#one();
      const pause = pauseMs === undefined ? this.#backoff.wait(signal) : delay(pauseMs, undefined, { signal });
      await pause.catch(() => {}); // closed meanwhile
    }
  }

  /** One stream to its end. Returns how long the store asks to wait before the next. */
  #one(): Promise<number | undefined> {
    return new Promise((resolve) => {
      let pauseMs: number | undefined;
      const stream = (this.#stream = this.store.open(StoreService.method.streamDequeue));
      stream.on("data", ({ message }: StreamDequeueResponse) => {
        if (message.case === "opened") this.#backoff.reset();
        if (message.case === "lost") {
          this.onLost({ attemptId: message.value.attempt?.attemptId ?? "", status: message.value.status });
        }
        if (message.case === "goAway") {
          this.#stream = undefined;
          pauseMs = message.value.reconnectAfter ? durationMs(message.value.reconnectAfter) : 0;
          stream.end();
        }
      });
      const end = () => {
        this.#stream = undefined;
        resolve(pauseMs);
      };
      stream.on("error", end).on("end", end);
      stream.write({ message: { case: "open", value: { ...this.opening, held: this.held() } } });
    });
  }
}
