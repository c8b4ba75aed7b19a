// Rooms books meeting rooms as examples/room_selector does, so that the Python APO trains the prompt of a Go agent.
package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/agentlightning/protocol/examples/go_runner/genai"
	"github.com/agentlightning/protocol/examples/go_runner/runner"
)

type roomTask struct {
	Input    map[string]any  `json:"task_input"`
	Expected string          `json:"expected_choice"`
	Rooms    json.RawMessage `json:"rooms"` // what the tool answers
}

func main() {
	client := openai.NewClient(option.WithHTTPClient(&http.Client{Transport: &genai.Transport{}}))
	runner.Main(func(ctx context.Context, task *runner.Task) (*float64, error) {
		var room roomTask
		if err := task.Decode(&room); err != nil {
			return nil, err
		}
		prompt, err := task.Prompt("prompt_template", room.Input)
		if err != nil {
			return nil, err
		}
		answer, err := chooseRoom(ctx, client, prompt, string(room.Rooms))
		return new(room.grade(strings.TrimSpace(answer))), err
	})
}

// chooseRoom asks the model, looks up the rooms if it wants to see them, and returns its last message.
func chooseRoom(ctx context.Context, client openai.Client, prompt, rooms string) (string, error) {
	asked := openai.ChatCompletionNewParams{
		Model: "gpt-4.1-nano", Temperature: openai.Float(0), Tools: tools,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(prompt)},
	}
	first, err := client.Chat.Completions.New(ctx, asked)
	if err != nil || len(first.Choices[0].Message.ToolCalls) == 0 {
		return text(first), err
	}
	asked.Messages, asked.Tools = append(asked.Messages, first.Choices[0].Message.ToParam()), nil
	for _, call := range first.Choices[0].Message.ToolCalls {
		asked.Messages = append(asked.Messages, openai.ToolMessage(rooms, call.ID))
	}
	second, err := client.Chat.Completions.New(ctx, asked)
	return text(second), err
}
