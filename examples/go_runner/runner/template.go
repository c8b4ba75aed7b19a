package runner

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	pb "github.com/agentlightning/protocol/examples/go_runner/agentlightningv1"
)

// Render fills in the placeholders of a prompt template: {name}, with {{ and }} for braces. Lists are written as
// [a, b]. Of the engines of templates, only f-strings without conversions are known.
func Render(template *pb.PromptTemplate, values map[string]any) (string, error) {
	switch engine := template.GetEngine(); engine {
	case pb.TemplateEngine_TEMPLATE_ENGINE_UNSPECIFIED, pb.TemplateEngine_TEMPLATE_ENGINE_F_STRING:
		return fill(template.GetTemplate(), values)
	case pb.TemplateEngine_TEMPLATE_ENGINE_JINJA, pb.TemplateEngine_TEMPLATE_ENGINE_POML:
		return "", fmt.Errorf("the prompt template is of the engine %s, which this runner does not render", engine)
	default: // of a newer store
		return fill(template.GetTemplate(), values)
	}
}

func fill(text string, values map[string]any) (string, error) {
	var filled strings.Builder
	for {
		at := strings.IndexAny(text, "{}")
		if at < 0 {
			filled.WriteString(text)
			return filled.String(), nil
		}
		filled.WriteString(text[:at])
		brace, rest := text[at], text[at+1:]
		if rest != "" && rest[0] == brace {
			filled.WriteByte(brace)
			text = rest[1:]
			continue
		}
		name, after, closed := strings.Cut(rest, "}")
		if brace == '}' || !closed {
			return "", fmt.Errorf("the template has a single %q: write %[1]c%[1]c for a brace", brace)
		}
		value, ok := values[name]
		if !ok {
			return "", missing(name, values)
		}
		filled.WriteString(show(value))
		text = after
	}
}

func missing(name string, values map[string]any) error {
	given := make([]string, 0, len(values))
	for key := range values {
		given = append(given, key)
	}
	slices.Sort(given)
	return fmt.Errorf("the template asks for %q, but only %q is given; write {{ and }} for braces that are not "+
		"placeholders", name, given)
}

func show(value any) string {
	switch value := value.(type) {
	case []any:
		shown := make([]string, len(value))
		for i, item := range value {
			shown[i] = show(item)
		}
		return "[" + strings.Join(shown, ", ") + "]"
	case map[string]any:
		if text, err := json.Marshal(value); err == nil {
			return string(text)
		}
	}
	return fmt.Sprint(value)
}
