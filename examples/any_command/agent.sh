#!/bin/sh
# The room selector in curl and jq: two calls of a model, with a tool between. docs/any-command.md says how it is run.
set -eu
task=$(cat)
tools='[{"type": "function", "function": {"name": "get_rooms_and_availability", "parameters": {"type": "object",
  "properties": {"date": {"type": "string"}, "time": {"type": "string"}, "duration_min": {"type": "integer"}},
  "required": ["date", "time", "duration_min"]}}}]'

# The prompt: each {name} of the template as the task has it, and {{ and }} as braces.
prompt=$(printf %s "$task" | jq -r --slurpfile resources "$AGL_RESOURCES_FILE" '
  def shown: if type == "array" then "[" + join(", ") + "]" else tostring end;
  .task_input as $given | $resources[0].prompt_template.template
  | gsub("(?<open>\\{\\{)|(?<close>\\}\\})|\\{(?<name>\\w+)\\}";
      .name as $name | if .open then "{" elif .close then "}" elif $given | has($name) then $given[$name] | shown
      else error("the template asks for \($name), which the task has not") end)')

# ask MESSAGES TOOLS: the message that the model answers with; a span says what was asked and answered.
ask() {
    reply=$(jq -n --argjson messages "$1" --argjson tools "$2" \
        '{model: "gpt-4.1-nano", temperature: 0, messages: $messages} + if $tools == [] then {} else {$tools} end' |
        curl --silent --show-error --fail --max-time 60 --data @- --header 'Content-Type: application/json' \
            --header "Authorization: Bearer ${OPENAI_API_KEY:-none}" \
            "${OPENAI_BASE_URL:-https://api.openai.com/v1}/chat/completions") || exit 75 # the model's server, not the agent
    answer=$(printf %s "$reply" | jq -c '.choices[0].message')
    agl emit span chat --attribute gen_ai.operation.name=chat --attribute gen_ai.request.model=gpt-4.1-nano \
        --attribute "gen_ai.tool.definitions=$2" --attribute "gen_ai.input.messages=$1" \
        --attribute "gen_ai.output.messages=[$answer]" \
        --attribute "gen_ai.usage.input_tokens=$(printf %s "$reply" | jq '.usage.prompt_tokens // 0')" \
        --attribute "gen_ai.usage.output_tokens=$(printf %s "$reply" | jq '.usage.completion_tokens // 0')"
    printf %s "$answer"
}

messages=$(jq -cn --arg prompt "$prompt" '[{role: "user", content: $prompt}]')
answer=$(ask "$messages" "$tools")
if printf %s "$answer" | jq -e '.tool_calls // [] | length > 0' > /dev/null; then
    messages=$(jq -cn --argjson before "$messages" --argjson answer "$answer" --argjson task "$task" \
        '$before + [$answer] + [$answer.tool_calls[] | {role: "tool", tool_call_id: .id, content: ($task.rooms | tojson)}]')
    answer=$(ask "$messages" '[]')
fi

# The reward, as its last line: 1 for exactly the expected choice, 0.5 if it is the only one that a longer answer names.
printf %s "$task" | jq --argjson answer "$answer" '
  ($answer.content // "" | gsub("^\\s+|\\s+$"; "")) as $said | .expected_choice as $expected
  | ["No Room", .rooms.rooms[].id] | map(select(. as $choice | $said | test("\\b\($choice)\\b"))) as $named
  | if $said == $expected then 1 elif $named == [$expected] then 0.5 else 0 end'
