package genai

import (
	"encoding/json"
	"strings"

	"go.opentelemetry.io/otel/attribute"
)

type request struct {
	Model       string            `json:"model"`
	Messages    []message         `json:"messages"`
	Tools       []json.RawMessage `json:"tools"`
	Temperature *float64          `json:"temperature"`
	MaxTokens   *int64            `json:"max_tokens"`
}

type response struct {
	ID      string   `json:"id"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *struct {
		PromptTokens     int64 `json:"prompt_tokens"`
		CompletionTokens int64 `json:"completion_tokens"`
	} `json:"usage"`
}

type choice struct {
	Message      message `json:"message"`
	FinishReason string  `json:"finish_reason"`
}

type message struct {
	Role       string          `json:"role"`
	Content    json.RawMessage `json:"content"`
	ToolCallID string          `json:"tool_call_id"`
	ToolCalls  []struct {
		ID       string `json:"id"`
		Function struct {
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		} `json:"function"`
	} `json:"tool_calls"`
}

// A part is a piece of a message, as the conventions have it.
type part struct {
	Type      string `json:"type"`
	Content   string `json:"content,omitempty"`
	ID        string `json:"id,omitempty"`
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments,omitempty"`
	Response  string `json:"response,omitempty"`
}

type recorded struct {
	Role         string `json:"role"`
	Parts        []part `json:"parts"`
	FinishReason string `json:"finish_reason,omitempty"`
}

// attributes of a completion; what is not in OpenAI's form is left out.
func attributes(asked, answered []byte) []attribute.KeyValue {
	var found []attribute.KeyValue
	var question request
	if json.Unmarshal(asked, &question) == nil {
		found = append(found, questionAttributes(question)...)
	}
	var answer response
	if json.Unmarshal(answered, &answer) == nil {
		found = append(found, answerAttributes(answer)...)
	}
	return found
}

func questionAttributes(question request) []attribute.KeyValue {
	messages := make([]recorded, len(question.Messages))
	for i, each := range question.Messages {
		messages[i] = recorded{Role: each.Role, Parts: each.parts()}
	}
	found := []attribute.KeyValue{
		attribute.String("gen_ai.request.model", question.Model),
		asJSON("gen_ai.input.messages", messages),
	}
	if question.Tools != nil {
		found = append(found, asJSON("gen_ai.tool.definitions", question.Tools))
	}
	if question.Temperature != nil {
		found = append(found, attribute.Float64("gen_ai.request.temperature", *question.Temperature))
	}
	if question.MaxTokens != nil {
		found = append(found, attribute.Int64("gen_ai.request.max_tokens", *question.MaxTokens))
	}
	return found
}

func answerAttributes(answer response) []attribute.KeyValue {
	messages := make([]recorded, len(answer.Choices))
	reasons := make([]string, len(answer.Choices))
	for i, each := range answer.Choices {
		messages[i] = recorded{each.Message.Role, each.Message.parts(), each.FinishReason}
		reasons[i] = each.FinishReason
	}
	found := []attribute.KeyValue{
		attribute.String("gen_ai.response.id", answer.ID),
		attribute.String("gen_ai.response.model", answer.Model),
		attribute.StringSlice("gen_ai.response.finish_reasons", reasons),
		asJSON("gen_ai.output.messages", messages),
	}
	if answer.Usage != nil {
		found = append(found,
			attribute.Int64("gen_ai.usage.input_tokens", answer.Usage.PromptTokens),
			attribute.Int64("gen_ai.usage.output_tokens", answer.Usage.CompletionTokens))
	}
	return found
}

func (m message) parts() []part {
	texts := textsOf(m.Content)
	if m.Role == "tool" {
		return []part{{Type: "tool_call_response", ID: m.ToolCallID, Response: strings.Join(texts, "")}}
	}
	parts := []part{}
	for _, text := range texts {
		parts = append(parts, part{Type: "text", Content: text})
	}
	for _, call := range m.ToolCalls {
		parts = append(parts,
			part{Type: "tool_call", ID: call.ID, Name: call.Function.Name, Arguments: call.Function.Arguments})
	}
	return parts
}

// textsOf are the texts of a message's content; a piece that is none, such as an image, is shown as its JSON.
func textsOf(content json.RawMessage) []string {
	var text *string
	if content == nil || json.Unmarshal(content, &text) == nil {
		if text == nil {
			return nil
		}
		return []string{*text}
	}
	var pieces []json.RawMessage
	if json.Unmarshal(content, &pieces) != nil {
		return []string{string(content)}
	}
	texts := make([]string, len(pieces))
	for i, piece := range pieces {
		known := struct{ Text *string }{}
		if texts[i] = string(piece); json.Unmarshal(piece, &known) == nil && known.Text != nil {
			texts[i] = *known.Text
		}
	}
	return texts
}

func asJSON(key string, value any) attribute.KeyValue {
	text, err := json.Marshal(value)
	if err != nil { // of nothing but texts: it never is
		return attribute.String(key, "[]")
	}
	return attribute.String(key, string(text))
}
