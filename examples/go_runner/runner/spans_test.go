package runner

import (
	"context"
	"errors"
	"slices"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// pickyExporter takes spans unless one of them is of a name that it refuses, and is away at first.
type pickyExporter struct {
	tracetest.InMemoryExporter
	refused string
	away    int
}

func (e *pickyExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if e.away > 0 {
		e.away--
		return status.Error(codes.Unavailable, "away")
	}
	for _, span := range spans {
		if span.Name() == e.refused {
			return errors.New("OTLP partial success")
		}
	}
	return e.InMemoryExporter.ExportSpans(ctx, spans)
}

func recordSpans(t *testing.T, names ...string) (*spanRecord, *spanProcessor) {
	t.Helper()
	processor, record := &spanProcessor{}, newSpanRecord("ro-1", "at-1", 5)
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(processor))
	ctx := context.WithValue(t.Context(), recordKey{}, record)
	for _, name := range names {
		_, span := provider.Tracer("test").Start(ctx, name)
		span.End()
	}
	_, _ = provider.Tracer("test").Start(ctx, "never ends")
	_, outside := provider.Tracer("test").Start(t.Context(), "of no attempt")
	outside.End()
	return record, processor
}

func TestSpansCarryTheirAttemptAndAreNumberedAsTheyStart(t *testing.T) {
	record, _ := recordSpans(t, "first", "second")
	exporter := &pickyExporter{}
	if err := record.flush(t.Context(), exporter); err != nil {
		t.Fatal(err)
	}
	for i, span := range exporter.GetSpans() {
		want := slices.Concat(record.identity, []attribute.KeyValue{spanSequenceID.Int64(int64(5 + i))})
		if !slices.Equal(span.Attributes, want) {
			t.Errorf("the attributes of %s are %v, want %v", span.Name, span.Attributes, want)
		}
	}
}

func TestASpanThatIsRefusedOrNeverEndsIsCountedAndKeepsNoOtherBack(t *testing.T) {
	record, processor := recordSpans(t, "good", "bad", "good too")
	exporter := &pickyExporter{refused: "bad", away: 2}
	if err := record.flush(t.Context(), exporter); err != nil {
		t.Fatal(err)
	}
	processor.forget(record)
	if sent, lost := len(exporter.GetSpans()), record.lostCount(); sent != 2 || lost != 2 {
		t.Errorf("%d are sent and %d lost, want 2 and 2", sent, lost)
	}
}

func TestSpansThatCouldNotBeSentInTimeAreCounted(t *testing.T) {
	record, _ := recordSpans(t, "late")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := record.flush(ctx, &pickyExporter{away: 1}); err == nil || record.lostCount() != 2 {
		t.Errorf("%d are lost, the error is %v", record.lostCount(), err)
	}
}

func TestASpanKeepsItsAttemptWhateverItsProviderAllowsAndItsTextIsValid(t *testing.T) {
	processor, record := &spanProcessor{}, newSpanRecord("ro-1", "at-1", 1)
	limits := sdktrace.SpanLimits{AttributeCountLimit: 1, EventCountLimit: 1, AttributeValueLengthLimit: -1}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(processor), sdktrace.WithRawSpanLimits(limits))
	_, span := provider.Tracer("test").Start(context.WithValue(t.Context(), recordKey{}, record), "half \xff")
	span.SetAttributes(attribute.String("answer", "caf\xc3"))
	span.AddEvent("half \xff")
	span.End()
	exporter := &pickyExporter{}
	if err := record.flush(t.Context(), exporter); err != nil {
		t.Fatal(err)
	}
	sent := exporter.GetSpans()[0]
	want := slices.Concat([]attribute.KeyValue{attribute.String("answer", "caf\uFFFD")}, record.identity,
		[]attribute.KeyValue{spanSequenceID.Int64(1)})
	if !slices.Equal(sent.Attributes, want) || sent.Name != "half \uFFFD" || sent.Events[0].Name != "half \uFFFD" {
		t.Errorf("%q with the attributes %v and the events %v is sent", sent.Name, sent.Attributes, sent.Events)
	}
}
