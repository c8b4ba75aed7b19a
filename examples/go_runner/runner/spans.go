package runner

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	rolloutID      = attribute.Key("agentlightning.rollout_id")
	attemptID      = attribute.Key("agentlightning.attempt_id")
	spanSequenceID = attribute.Key("agentlightning.span_sequence_id")

	batchSpans = 100
	batchPause = 100 * time.Millisecond
)

type recordKey struct{}

// spanProcessor numbers the spans that are started within an attempt, and hands them to the attempt's record as they
// end. Spans of no attempt pass by.
type spanProcessor struct{ started sync.Map }

type startedSpan struct {
	record *spanRecord
	number int64
}

func (p *spanProcessor) OnStart(parent context.Context, span sdktrace.ReadWriteSpan) {
	record, ok := parent.Value(recordKey{}).(*spanRecord)
	if !ok || record.closed.Load() {
		return
	}
	record.open.Add(1)
	p.started.Store(span.SpanContext().SpanID(), startedSpan{record, record.nextNumber()})
}

func (p *spanProcessor) OnEnd(span sdktrace.ReadOnlySpan) {
	if found, ok := p.started.LoadAndDelete(span.SpanContext().SpanID()); ok {
		started := found.(startedSpan)
		started.record.add(span, started.number)
	}
}

func (p *spanProcessor) Shutdown(context.Context) error { return nil }

func (p *spanProcessor) ForceFlush(context.Context) error { return nil }

// forget drops what is still open of an attempt that has ended, and what an agent left behind begins after that.
func (p *spanProcessor) forget(record *spanRecord) {
	record.closed.Store(true)
	p.started.Range(func(id, started any) bool {
		if started.(startedSpan).record == record {
			p.started.Delete(id)
		}
		return true
	})
}

// A spanRecord is the spans of one attempt: their numbers, and those that the store has not acknowledged yet.
type spanRecord struct {
	identity []attribute.KeyValue
	number   atomic.Int64
	open     atomic.Int64
	closed   atomic.Bool

	mu      sync.Mutex
	waiting []sdktrace.ReadOnlySpan
	came    chan struct{}
	lost    int64
}

func newSpanRecord(rollout, attempt string, nextNumber int64) *spanRecord {
	record := &spanRecord{
		identity: []attribute.KeyValue{rolloutID.String(rollout), attemptID.String(attempt)},
		came:     make(chan struct{}, 1),
	}
	record.number.Store(max(nextNumber, 1) - 1)
	return record
}

func (s *spanRecord) nextNumber() int64 { return s.number.Add(1) }

func (s *spanRecord) add(span sdktrace.ReadOnlySpan, number int64) {
	s.open.Add(-1)
	identity := slices.Concat(s.identity, []attribute.KeyValue{spanSequenceID.Int64(number)})
	s.mu.Lock()
	s.waiting = append(s.waiting, deliveredSpan{span, identity})
	s.mu.Unlock()
	select {
	case s.came <- struct{}{}:
	default:
	}
}

// deliver sends spans as they end, until ctx does. What could not be sent is left for flush.
func (s *spanRecord) deliver(ctx context.Context, exporter sdktrace.SpanExporter) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.came:
		}
		if !sleep(ctx, batchPause) { // for others to join it
			return
		}
		if s.flush(ctx, exporter) != nil {
			return
		}
	}
}

// flush sends what has ended, however long the store is away, and says only why ctx ended before.
func (s *spanRecord) flush(ctx context.Context, exporter sdktrace.SpanExporter) error {
	for {
		batch := s.next()
		if len(batch) == 0 {
			return nil
		}
		refused, err := export(ctx, exporter, batch)
		if err != nil {
			return err
		}
		s.sent(len(batch), refused)
	}
}

func (s *spanRecord) next() []sdktrace.ReadOnlySpan {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting[:min(len(s.waiting), batchSpans)]
}

func (s *spanRecord) sent(count int, refused int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = s.waiting[count:]
	s.lost += refused
}

// lostCount is how many spans the store will never have: refused, not sent, or not ended.
func (s *spanRecord) lostCount() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost + int64(len(s.waiting)) + s.open.Load()
}

// export sends spans and counts those that the store refused. To find them it sends the spans one by one: the exporter
// does not say which they are, and the store takes each once however often it is sent.
func export(
	ctx context.Context, exporter sdktrace.SpanExporter, spans []sdktrace.ReadOnlySpan,
) (refused int64, err error) {
	_, err = repeat(ctx, callTimeout, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, withStatus(exporter.ExportSpans(ctx, spans))
	})
	switch {
	case err == nil:
		return 0, nil
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case len(spans) == 1:
		return 1, nil
	}
	for i := range spans {
		one, err := export(ctx, exporter, spans[i:i+1])
		if err != nil {
			return refused, err
		}
		refused += one
	}
	return refused, nil
}

// withStatus gives the exporter's error a status where it has none, as that of a partial success.
func withStatus(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.InvalidArgument, err.Error())
}

func newExporter(ctx context.Context, conn *grpc.ClientConn) (*otlptrace.Exporter, error) {
	// The runner repeats by itself: it knows for how long.
	return otlptracegrpc.New(ctx, otlptracegrpc.WithGRPCConn(conn), otlptracegrpc.WithTimeout(callTimeout),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: false}))
}
