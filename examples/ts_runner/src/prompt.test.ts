import assert from "node:assert/strict";
import { test } from "node:test";
import { PromptTemplate, PromptTemplateError } from "./prompt.js";

const values = { time: "10:00", attendees: 4, needs: ["projector", "camera"], accessible: true, room: { id: "Nova" } };

for (const [template, expected] of [
  ["A room at {time} for {attendees}.", "A room at 10:00 for 4."],
  ["with {needs}, {accessible}, {room}", 'with [projector, camera], true, {"id":"Nova"}'],
  ["answer as {{'id': ...}}", "answer as {'id': ...}"],
  ["{{{time}}}", "{10:00}"],
  ["{{time}}", "{time}"],
  ["no placeholder", "no placeholder"],
] as const) {
  test(`"${template}" is filled in`, () => {
    assert.equal(new PromptTemplate(template).format(values), expected);
  });
}

for (const [template, complaint] of [
  ["{date}", /asks for 'date', but only accessible, attendees, needs, room, time is given/],
  ["{toString}", /asks for 'toString'/],
  ["{room.id}", /\{room.id\} is more than a name/],
  ["{time:>8}", /\{time:>8\} is more than a name/],
  ["{}", /\{\} is more than a name/],
  ["{time", /a single '\{'/],
  ["time}", /a single '\}'/],
] as const) {
  test(`"${template}" is refused`, () => {
    const format = () => new PromptTemplate(template).format(values);
    assert.throws(format, (error) => error instanceof PromptTemplateError && complaint.test(error.message));
  });
}

test("a template of another engine is left to the agent", () => {
  const format = () => new PromptTemplate("{{ time }}", "jinja").format(values);
  assert.throws(format, /engine 'jinja' is rendered by the agent/);
});

test("what is filled in is not filled in again", () => {
  assert.equal(new PromptTemplate("{a} {b}").format({ a: "{b}", b: "$&" }), "{b} $&");
});
