package runner

import (
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// A deliveredSpan is a span as the store takes it. It names its attempt, whatever limits its provider sets on
// attributes, and its texts are valid UTF-8, as protobuf demands: half a character would cost the whole span.
type deliveredSpan struct {
	sdktrace.ReadOnlySpan
	identity []attribute.KeyValue
}

func (s deliveredSpan) Name() string { return valid(s.ReadOnlySpan.Name()) }

func (s deliveredSpan) Attributes() []attribute.KeyValue {
	return slices.Concat(validAttributes(s.ReadOnlySpan.Attributes()), s.identity)
}

func (s deliveredSpan) Status() sdktrace.Status {
	status := s.ReadOnlySpan.Status()
	status.Description = valid(status.Description)
	return status
}

func (s deliveredSpan) Events() []sdktrace.Event {
	events := slices.Clone(s.ReadOnlySpan.Events())
	for i := range events {
		events[i].Name, events[i].Attributes = valid(events[i].Name), validAttributes(events[i].Attributes)
	}
	return events
}

func validAttributes(attributes []attribute.KeyValue) []attribute.KeyValue {
	attributes = slices.Clone(attributes)
	for i, each := range attributes {
		attributes[i].Key = attribute.Key(valid(string(each.Key)))
		switch each.Value.Type() {
		case attribute.STRING:
			attributes[i].Value = attribute.StringValue(valid(each.Value.AsString()))
		case attribute.STRINGSLICE:
			texts := each.Value.AsStringSlice()
			for j, text := range texts {
				texts[j] = valid(text)
			}
			attributes[i].Value = attribute.StringSliceValue(texts)
		}
	}
	return attributes
}

func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
