import io.opentelemetry.api.OpenTelemetry;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.Scope;
import io.opentelemetry.context.propagation.TextMapGetter;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Books the smallest room that seats everyone. It knows OpenTelemetry, and nothing of who runs or trains it. */
final class Agent {
    private static final Pattern ATTENDEES = Pattern.compile("\"attendees\":\\s*(\\d+)");
    private static final Pattern EXPECTED = Pattern.compile("\"expected_choice\":\\s*\"([^\"]*)\"");
    private static final Pattern ROOM = Pattern.compile("\"id\":\\s*\"(\\w+)\",\\s*\"capacity\":\\s*(\\d+)");

    public static void main(String[] arguments) throws IOException {
        String task = new String(System.in.readAllBytes(), StandardCharsets.UTF_8);
        // All that it is to know stands in OTEL_* variables; closing it delivers the last spans.
        try (OpenTelemetrySdk telemetry = AutoConfiguredOpenTelemetrySdk.initialize().getOpenTelemetrySdk();
                Scope caller = callerOf(telemetry).makeCurrent()) {
            String choice = choose(task, telemetry.getTracer("rooms"));
            System.out.println("I suggest " + choice);
            System.out.println(choice.equals(find(EXPECTED, task)) ? 1.0 : 0.0); // the last line: the reward
        }
    }

    private static String choose(String task, Tracer tracer) {
        Span span = tracer.spanBuilder("choose room").startSpan();
        try (Scope scope = span.makeCurrent()) {
            int attendees = Integer.parseInt(find(ATTENDEES, task));
            String choice = "No Room";
            int smallest = Integer.MAX_VALUE;
            for (Matcher room = ROOM.matcher(task); room.find(); ) {
                int capacity = Integer.parseInt(room.group(2));
                tracer.spanBuilder("look at room").setAttribute("room.id", room.group(1)).startSpan().end();
                if (capacity >= attendees && capacity < smallest) {
                    choice = room.group(1);
                    smallest = capacity;
                }
            }
            span.setAttribute("room.choice", choice);
            return choice;
        } finally {
            span.end();
        }
    }

    private static String find(Pattern pattern, String task) {
        Matcher matcher = pattern.matcher(task);
        if (!matcher.find()) {
            throw new IllegalArgumentException("the task has nothing like " + pattern);
        }
        return matcher.group(1);
    }

    /** The span that this process is part of, which TRACEPARENT names. */
    private static Context callerOf(OpenTelemetry telemetry) {
        String caller = System.getenv().getOrDefault("TRACEPARENT", "");
        return telemetry.getPropagators().getTextMapPropagator()
                .extract(Context.current(), Map.of("traceparent", caller), new Getter());
    }

    private static final class Getter implements TextMapGetter<Map<String, String>> {
        @Override
        public Iterable<String> keys(Map<String, String> carrier) {
            return List.copyOf(carrier.keySet());
        }

        @Override
        public String get(Map<String, String> carrier, String key) {
            return carrier.get(key);
        }
    }
}
