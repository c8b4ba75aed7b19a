package main

import (
	"regexp"

	"github.com/openai/openai-go/v3"
)

var (
	choices = regexp.MustCompile(`\b(No Room|Alder|Birch|Cedar|Hazel|Linden|Maple|Rowan|Willow)\b`)
	tools   = []openai.ChatCompletionToolUnionParam{
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
)

// grade is 1 for exactly the expected choice, 0.5 if it is the only choice that a longer answer names, else 0.
func grade(answer, expected string) float64 {
	if answer == expected {
		return 1
	}
	named := choices.FindAllString(answer, -1)
	for _, choice := range named {
		if choice != expected {
			return 0
		}
	}
	return 0.5 * float64(min(len(named), 1))
}

func text(completion *openai.ChatCompletion) string {
	if completion == nil || len(completion.Choices) == 0 {
		return ""
	}
	return completion.Choices[0].Message.Content
}
