package render

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"unicode"

	"strata/internal/errdef"
)

// List says how a listing is printed.
type List struct {
	// Format is docker's --format: "" or "table" (the Columns), "table TEMPLATE", "json" (one object a line), or a
	// template that is executed once a row.
	Format string
	// Columns are the field names that the plain table shows.
	Columns []string
	// Quiet prints the field Key alone, one a line, unless Format is a template. A verb that lets -q win over a template
	// (docker's ps does, its images does not) leaves Format empty.
	Quiet bool
	// Key is the field that Quiet prints; "" is "ID".
	Key string
}

// Rows prints rows, structs of strings, as l says. Nothing is written if a template fails.
func Rows[T any](w io.Writer, l List, rows []T) error {
	return l.rows(w, reflect.TypeFor[T](), reflect.ValueOf(rows))
}

func (l List) rows(w io.Writer, t reflect.Type, rows reflect.Value) error {
	switch l.Format {
	case "", "table":
		if l.Quiet {
			return l.keys(w, t, rows)
		}
		return l.table(w, t, rows)
	case "json":
		return jsonLines(w, rows)
	case "raw", "pretty":
		return errdef.WithHint(fmt.Errorf("format %q: %w", l.Format, errdef.ErrUnsupported), "--format json")
	}
	return l.template(w, t, rows)
}

// table prints the columns in docker's layout.
func (l List) table(w io.Writer, t reflect.Type, rows reflect.Value) error {
	headings := make([]string, len(l.Columns))
	index := make([][]int, len(l.Columns))
	for i, name := range l.Columns {
		f, err := field(t, name)
		if err != nil {
			return err
		}
		headings[i], index[i] = heading(f), f.Index
	}
	cells := make([][]string, rows.Len())
	for r := range cells {
		cells[r] = make([]string, len(index))
		for c, at := range index {
			cells[r][c] = rows.Index(r).FieldByIndex(at).String()
		}
	}
	return Table(w, headings, cells)
}

// keys prints one field of every row.
func (l List) keys(w io.Writer, t reflect.Type, rows reflect.Value) error {
	name := l.Key
	if name == "" {
		name = "ID"
	}
	f, err := field(t, name)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for r := range rows.Len() {
		fmt.Fprintln(&b, rows.Index(r).FieldByIndex(f.Index).String())
	}
	return write(w, &b)
}

// template prints rows through a template that somebody gave; "table" before it adds a heading and aligns at tabs.
func (l List) template(w io.Writer, t reflect.Type, rows reflect.Value) error {
	text, isTable := strings.CutPrefix(l.Format, "table")
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(strings.Trim(text, " "))
	tmpl, err := parseTemplate(text)
	if err != nil {
		return &templateError{"failed to parse template: " + err.Error()}
	}
	var body, head bytes.Buffer
	for r := range rows.Len() {
		if err := tmpl.Execute(&body, rows.Index(r).Interface()); err != nil {
			return &templateError{"failed to execute template: " + err.Error()}
		}
		body.WriteByte('\n')
	}
	if !isTable {
		return write(w, &body)
	}
	err = tmpl.Option("missingkey=error").Funcs(headerFunctions()).Execute(&head, headings(t))
	if err != nil && rows.Len() == 0 { // else the rows themselves have shown that the template is good
		return &templateError{"failed to execute template: " + err.Error()}
	}
	head.WriteByte('\n')
	tw := newTabs(w, 10)
	if err := write(tw, &head); err != nil {
		return err
	}
	if err := write(tw, &body); err != nil {
		return err
	}
	return tw.Flush()
}

// Table prints a heading and cells, made clean, in docker's layout: columns at least ten wide, three spaces between.
func Table(w io.Writer, headings []string, rows [][]string) error {
	return tableWidth(w, 10, headings, rows)
}

func tableWidth(w io.Writer, least int, headings []string, rows [][]string) error {
	out := bufio.NewWriterSize(w, 64<<10) // else each cell is a write of its own
	tw := newTabs(out, least)
	var b bytes.Buffer
	b.WriteString(strings.Join(headings, "\t"))
	b.WriteByte('\n')
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				b.WriteByte('\t')
			}
			b.WriteString(cleanCell(cell))
		}
		b.WriteByte('\n')
	}
	if err := write(tw, &b); err != nil {
		return err
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	return out.Flush()
}

func newTabs(w io.Writer, least int) *tabwriter.Writer {
	return tabwriter.NewWriter(w, least, 1, 3, ' ', 0)
}

func jsonLines(w io.Writer, rows reflect.Value) error {
	var b bytes.Buffer
	for r := range rows.Len() {
		line, err := compactJSON(rows.Index(r).Interface())
		if err != nil {
			return err
		}
		fmt.Fprintln(&b, line)
	}
	return write(w, &b)
}

func write(w io.Writer, b *bytes.Buffer) error {
	_, err := w.Write(b.Bytes())
	return err
}

func field(t reflect.Type, name string) (reflect.StructField, error) {
	f, ok := t.FieldByName(name)
	if !ok {
		return f, fmt.Errorf("column %q of %s: %w", name, t.Name(), errdef.ErrNotFound)
	}
	return f, nil
}

// headingRow is what a table template is executed on to make the heading: every field name gives its heading.
type headingRow map[string]string

// Label is the heading of {{.Label "com.example.some-name"}}: the name's last part in words.
func (headingRow) Label(name string) string {
	return strings.NewReplacer("-", " ", "_", " ").Replace(name[strings.LastIndexByte(name, '.')+1:])
}

func headings(t reflect.Type) headingRow {
	row := headingRow{}
	for i := range t.NumField() {
		row[t.Field(i).Name] = heading(t.Field(i))
	}
	return row
}

// heading is the field's tag, else its name in words: "CreatedAt" gives "CREATED AT".
func heading(f reflect.StructField) string {
	if h, ok := f.Tag.Lookup("heading"); ok {
		return h
	}
	var b strings.Builder
	lower := false
	for _, r := range f.Name {
		if unicode.IsUpper(r) && lower {
			b.WriteByte(' ')
		}
		lower = unicode.IsLower(r)
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}
