package render

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/template"

	"strata/internal/event"
)

// Events prints events as they come, each with one write.
type Events struct {
	w    io.Writer
	line func(b *bytes.Buffer, m event.Message) error
}

// NewEvents prints to w: docker's text without a format, a JSON document a line with "json", else a template.
func NewEvents(w io.Writer, format string) (*Events, error) {
	switch format {
	case "":
		return &Events{w, eventText}, nil
	case "json":
		return &Events{w, eventJSON}, nil
	}
	tmpl, err := parseTemplate(strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format))
	if err != nil {
		return nil, &FormatError{templateError{"Error parsing format: " + err.Error()}}
	}
	return &Events{w, eventTemplate(tmpl)}, nil
}

// Print prints one event.
func (e *Events) Print(m event.Message) error {
	var b bytes.Buffer
	if err := e.line(&b, m); err != nil {
		return err
	}
	b.WriteByte('\n')
	return write(e.w, &b)
}

// eventText is docker's line: "2026-01-02T15:04:05.123456789Z container die <id> (exitCode=0, image=app, name=web)". Ids and
// attributes are made clean and stay on their line: labels come from images.
func eventText(b *bytes.Buffer, m event.Message) error {
	fmt.Fprintf(b, "%s %s %s %s", m.When().Format("2006-01-02T15:04:05.000000000Z07:00"), m.Type, cleanCell(m.Action), cleanCell(m.Actor.ID))
	if len(m.Actor.Attributes) == 0 {
		return nil
	}
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(m.Actor.Attributes)) {
		pairs = append(pairs, cleanCell(name+"="+m.Actor.Attributes[name]))
	}
	fmt.Fprintf(b, " (%s)", strings.Join(pairs, ", "))
	return nil
}

func eventJSON(b *bytes.Buffer, m event.Message) error {
	text, err := compactJSON(m)
	b.WriteString(text)
	return err
}

func eventTemplate(tmpl *template.Template) func(*bytes.Buffer, event.Message) error {
	return func(b *bytes.Buffer, m event.Message) error {
		if err := tmpl.Execute(b, m); err != nil {
			return &FormatError{templateError{"Error parsing format: " + err.Error()}}
		}
		return nil
	}
}
