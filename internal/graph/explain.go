package graph

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

const neverBuilt = "never built here"

// maxSaid is how many differences an explanation spells out, maxValue how many bytes of a value it shows.
const (
	maxSaid  = 3
	maxValue = 80
)

// Explain says in words what differs between the lines of two runs; "" when nothing does. Lines that tell of the results
// of inputs count only when nothing else differs.
func Explain(before, now []Line) string { return explain(before, now, nil) }

// explain is [Explain] that knows what the inputs are called.
func explain(before, now []Line, nouns []string) string {
	var own, inputs []string
	for _, d := range difference(before, now) {
		if i, ok := inputIndex(d.name); ok {
			inputs = append(inputs, inputNoun(i, nouns)+" changed")
			continue
		}
		own = append(own, d.String())
	}
	if len(own) == 0 {
		own = inputs
	}
	if extra := len(own) - maxSaid; extra > 0 {
		return strings.Join(own[:maxSaid], ", ") + fmt.Sprintf(", and %d more", extra)
	}
	return strings.Join(own, ", ")
}

func inputIndex(name string) (int, bool) {
	number, ok := strings.CutPrefix(name, inputName)
	if !ok {
		return 0, false
	}
	i, err := strconv.Atoi(number)
	return i, err == nil
}

func inputNoun(i int, nouns []string) string {
	if i < len(nouns) {
		return nouns[i]
	}
	return "an earlier step's result"
}

// change is one line that differs.
type change struct {
	name        string
	before, now *string
}

// difference compares lists by name, in the order of now, what is gone last. Lines that share a name are compared in
// their order.
func difference(before, now []Line) []change {
	old := make(map[string][]string, len(before))
	for _, l := range before {
		old[l.Name] = append(old[l.Name], l.Value)
	}
	var changes []change
	for _, l := range now {
		values := old[l.Name]
		if len(values) == 0 {
			changes = append(changes, change{l.Name, nil, &l.Value})
			continue
		}
		old[l.Name] = values[1:]
		if values[0] != l.Value {
			changes = append(changes, change{l.Name, &values[0], &l.Value})
		}
	}
	for _, l := range before {
		if values := old[l.Name]; len(values) > 0 {
			old[l.Name] = values[1:]
			changes = append(changes, change{l.Name, &values[0], nil})
		}
	}
	return changes
}

// String is the change in words. Digests say nothing to a person: of values that hold one only the rest is shown.
func (c change) String() string {
	switch {
	case c.before == nil && isPath(c.name):
		return c.name + " is new"
	case c.now == nil && isPath(c.name):
		return c.name + " is gone"
	case c.before == nil:
		return c.name + " is new" + shown(*c.now)
	case c.now == nil:
		return c.name + " is gone" + shown(*c.before)
	}
	name := c.name
	if isPath(name) {
		_, name, _ = strings.Cut(name, " ")
	}
	before, now := *c.before, *c.now
	if hasDigest(before) || hasDigest(now) {
		if before, now = outside(before, now); before == now {
			return name + " changed"
		}
		return fmt.Sprintf("%s changed: %s → %s", name, before, now)
	}
	if strings.HasPrefix(name, "the ") {
		return fmt.Sprintf("%s changed: %s → %s", name, short(before), short(now))
	}
	return fmt.Sprintf("%s: %q → %q", name, short(before), short(now))
}

func isPath(name string) bool {
	return strings.HasPrefix(name, "file ") || strings.HasPrefix(name, "directory ") || strings.HasPrefix(name, "link ")
}

const digestPrefix = "sha256:"

func hasDigest(value string) bool { return strings.Contains(value, digestPrefix) }

// outside gives the words that differ between two values when only words that are no digests do; else two equal texts.
func outside(before, now string) (string, string) {
	a, b := strings.Fields(before), strings.Fields(now)
	if len(a) != len(b) {
		return "", ""
	}
	var x, y []string
	for i := range a {
		if a[i] == b[i] {
			continue
		}
		if hasDigest(a[i]) || hasDigest(b[i]) {
			return "", ""
		}
		x, y = append(x, a[i]), append(y, b[i])
	}
	return strings.Join(x, " "), strings.Join(y, " ")
}

func shown(value string) string {
	if value == "" || hasDigest(value) {
		return ""
	}
	return fmt.Sprintf(": %q", short(value))
}

// short cuts a value between characters and shows line ends as spaces.
func short(value string) string {
	value = strings.Join(strings.Fields(value), " ")
	if len(value) <= maxValue {
		return value
	}
	cut := maxValue
	for cut > 0 && !utf8.RuneStart(value[cut]) {
		cut--
	}
	return value[:cut] + "…"
}
