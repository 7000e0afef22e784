package render

import (
	"bytes"
	"encoding/json"
	"io"
	"text/template"
)

// Inspect prints documents as docker's inspect does.
//
// Without a format they are an array indented by four spaces, with "json" a compact array on one line. Any other format is
// a template, executed once a document with a newline after each. A template names fields by their Go names
// (.Config.Env) or by their JSON keys (.Id); a name that is neither ends with docker's error. What was rendered before
// the error is printed.
func Inspect[T any](w io.Writer, format string, documents []T) error {
	switch format {
	case "":
		return inspectArray(w, documents, true)
	case "json":
		return inspectArray(w, documents, false)
	}
	tmpl, err := parseTemplate(format)
	if err != nil {
		return &FormatError{templateError{"template parsing error: " + err.Error()}}
	}
	for _, d := range documents {
		line, err := inspectOne(tmpl, d)
		if err != nil {
			return err
		}
		line.WriteByte('\n')
		if err := write(w, line); err != nil {
			return err
		}
	}
	return nil
}

func inspectArray[T any](w io.Writer, documents []T, indent bool) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if indent {
		enc.SetIndent("", "    ")
	}
	if err := enc.Encode(append([]T{}, documents...)); err != nil {
		return err
	}
	return write(w, &b)
}

// inspectOne executes tmpl on the struct and, where that does not know a name, on the document's JSON.
func inspectOne(tmpl *template.Template, document any) (*bytes.Buffer, error) {
	var b bytes.Buffer
	if err := tmpl.Execute(&b, document); err == nil {
		return &b, nil
	}
	raw, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // else a large size would print as a float
	var keys any
	if err := dec.Decode(&keys); err != nil {
		return nil, err
	}
	b.Reset()
	if err := template.Must(tmpl.Clone()).Option("missingkey=error").Execute(&b, keys); err != nil {
		return nil, &templateError{"template parsing error: " + err.Error()}
	}
	return &b, nil
}
