package main

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/openai/openai-go/v3"
)

var tools = []openai.ChatCompletionToolUnionParam{
	openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
		Name:        "get_rooms_and_availability",
		Description: openai.String("Lists every meeting room and whether it is free at the given date and time."),
		Parameters: openai.FunctionParameters{
			"type": "object",
			"properties": map[string]any{
				"date":         map[string]any{"type": "string", "description": "YYYY-MM-DD"},
				"time":         map[string]any{"type": "string", "description": "HH:MM, 24 hours"},
				"duration_min": map[string]any{"type": "integer", "description": "Length of the meeting in minutes"},
			},
			"required": []string{"date", "time", "duration_min"},
		},
	}),
}

// grade is 1 for exactly the expected choice, 0.5 if it is the only choice that a longer answer names, else 0.
func (t roomTask) grade(answer string) float64 {
	if answer == t.Expected {
		return 1
	}
	named := t.choices().FindAllString(answer, -1)
	for _, choice := range named {
		if choice != t.Expected {
			return 0
		}
	}
	return 0.5 * float64(min(len(named), 1))
}

// choices matches each of the rooms, and that there is none.
func (t roomTask) choices() *regexp.Regexp {
	var answer struct {
		Rooms []struct{ ID string } `json:"rooms"`
	}
	_ = json.Unmarshal(t.Rooms, &answer) // of what is no list, no room can be chosen
	names := []string{"No Room"}
	for _, room := range answer.Rooms {
		names = append(names, regexp.QuoteMeta(room.ID))
	}
	return regexp.MustCompile(`\b(` + strings.Join(names, "|") + `)\b`)
}

func text(completion *openai.ChatCompletion) string {
	if completion == nil || len(completion.Choices) == 0 {
		return ""
	}
	return completion.Choices[0].Message.Content
}
