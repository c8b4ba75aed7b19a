// Package genai records chat completions as spans, in the form of OpenTelemetry's conventions for generative AI. It
// knows OpenAI's JSON and no client: any that takes an http.Client will do.
package genai

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/agentlightning/protocol/examples/go_runner/genai"

// Transport is an http.RoundTripper that records each chat completion within the span of its request's context, by the
// tracer provider of that span. Other requests, and streamed completions, pass by unrecorded.
type Transport struct {
	// Base makes the requests. Nil is http.DefaultTransport.
	Base http.RoundTripper
}

// RoundTrip makes a request.
func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	if request.Method != http.MethodPost || !strings.HasSuffix(request.URL.Path, "/chat/completions") {
		return base.RoundTrip(request)
	}
	asked, request, err := withBody(request)
	if err != nil {
		return nil, fmt.Errorf("reading the request of a chat completion: %w", err)
	}
	tracer := trace.SpanFromContext(request.Context()).TracerProvider().Tracer(scope)
	ctx, span := tracer.Start(request.Context(), "openai.chat.completion", trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	span.SetAttributes(
		attribute.String("gen_ai.operation.name", "chat"), attribute.String("gen_ai.provider.name", "openai"))
	response, err := base.RoundTrip(request.WithContext(ctx))
	if err != nil {
		fail(span, err)
		return nil, err
	}
	return response, record(span, asked, response)
}

// record leaves out what was asked where there is no answer: the client may ask the same again.
func record(span trace.Span, asked []byte, response *http.Response) error {
	if response.StatusCode != http.StatusOK {
		fail(span, fmt.Errorf("the model's server answered %s", response.Status))
		return nil
	}
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != "application/json" {
		return nil
	}
	answered, err := io.ReadAll(response.Body)
	if err != nil {
		fail(span, err)
		return fmt.Errorf("reading a chat completion: %w", err)
	}
	if err := response.Body.Close(); err != nil {
		return fmt.Errorf("reading a chat completion: %w", err)
	}
	response.Body = io.NopCloser(bytes.NewReader(answered))
	span.SetAttributes(attributes(asked, answered)...)
	return nil
}

func fail(span trace.Span, err error) {
	span.SetStatus(codes.Error, err.Error())
}

// withBody reads a request's body and gives a request with the same: a RoundTripper may not change the one it is given.
func withBody(request *http.Request) ([]byte, *http.Request, error) {
	if request.Body == nil {
		return nil, request, nil
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, request, err
	}
	if err := request.Body.Close(); err != nil {
		return nil, request, err
	}
	request = request.Clone(request.Context())
	request.Body = io.NopCloser(bytes.NewReader(body))
	return body, request, nil
}
