package genai

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

const question = `{"model": "small", "temperature": 0, "messages": [
	{"role": "system", "content": [{"type": "text", "text": "Be brief."}, {"type": "image_url"}]},
	{"role": "user", "content": "Which room?"},
	{"role": "assistant", "content": null, "tool_calls": [
		{"id": "call-1", "type": "function", "function": {"name": "rooms", "arguments": "{}"}}]},
	{"role": "tool", "tool_call_id": "call-1", "content": "[\"Maple\"]"}]}`

const answer = `{"id": "chat-1", "model": "small-2", "usage": {"prompt_tokens": 9, "completion_tokens": 1},
	"choices": [{"message": {"role": "assistant", "content": "Maple"}, "finish_reason": "stop"}]}`

// ask sends a request through a Transport to a server that answers so, and gives the body and the spans.
func ask(t *testing.T, path string, status int, contentType, body string) (string, tracetest.SpanStubs) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if received, err := io.ReadAll(r.Body); err != nil || string(received) != question {
			t.Errorf("the server received %q, %v", received, err)
		}
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	defer server.Close()
	recorded := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(recorded))
	ctx, root := provider.Tracer("test").Start(t.Context(), "root")
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+path, strings.NewReader(question))
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Transport: &Transport{}}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	received, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	defer root.End()
	return string(received), recorded.GetSpans()
}

func attributesOf(span tracetest.SpanStub) map[string]string {
	found := map[string]string{}
	for _, each := range span.Attributes {
		found[string(each.Key)] = each.Value.Emit()
	}
	return found
}

func TestACompletionIsASpanAndReachesItsCallerUnchanged(t *testing.T) {
	received, spans := ask(t, "/v1/chat/completions", 200, "application/json; charset=utf-8", answer)
	if received != answer || len(spans) != 1 {
		t.Fatalf("%d spans, and the caller received %q", len(spans), received)
	}
	recorded := attributesOf(spans[0])
	for key, want := range map[string]string{
		"gen_ai.operation.name":      "chat",
		"gen_ai.request.model":       "small",
		"gen_ai.request.temperature": "0",
		"gen_ai.input.messages": `[{"role":"system","parts":[{"type":"text","content":"Be brief."},{"type":"text","content":"{\"type\": \"image_url\"}"}]},` +
			`{"role":"user","parts":[{"type":"text","content":"Which room?"}]},` +
			`{"role":"assistant","parts":[{"type":"tool_call","id":"call-1","name":"rooms","arguments":"{}"}]},` +
			`{"role":"tool","parts":[{"type":"tool_call_response","id":"call-1","response":"[\"Maple\"]"}]}]`,
		"gen_ai.output.messages":     `[{"role":"assistant","parts":[{"type":"text","content":"Maple"}],"finish_reason":"stop"}]`,
		"gen_ai.response.id":         "chat-1",
		"gen_ai.usage.input_tokens":  "9",
		"gen_ai.usage.output_tokens": "1",
	} {
		if recorded[key] != want {
			t.Errorf("%s is %s, want %s", key, recorded[key], want)
		}
	}
}

func TestATryThatFailsIsASpanWithoutMessages(t *testing.T) {
	_, spans := ask(t, "/v1/chat/completions", 503, "application/json", "{}")
	if len(spans) != 1 || spans[0].Status.Code != codes.Error {
		t.Fatalf("the spans are %v", spans)
	}
	if messages, ok := attributesOf(spans[0])["gen_ai.input.messages"]; ok {
		t.Errorf("the messages are %s", messages)
	}
}

func TestAStreamReachesItsCallerAndItsAnswerIsNotRecorded(t *testing.T) {
	received, spans := ask(t, "/v1/chat/completions", 200, "text/event-stream", "data: [DONE]\n\n")
	if received != "data: [DONE]\n\n" || len(spans) != 1 {
		t.Fatalf("%d spans, and the caller received %q", len(spans), received)
	}
}

func TestOtherRequestsAreNotRecorded(t *testing.T) {
	if _, spans := ask(t, "/v1/embeddings", 200, "application/json", "{}"); len(spans) != 0 {
		t.Errorf("the spans are %v", spans)
	}
}
