package render

import (
	"bytes"
	"io"
)

// Document prints one document with docker's --format of info and version: "json" on one line, else a template, which names
// fields by their Go names or by their JSON keys.
func Document(w io.Writer, format string, document any) error {
	if format == "json" {
		text, err := compactJSON(document)
		if err != nil {
			return err
		}
		return write(w, bytes.NewBufferString(text+"\n"))
	}
	tmpl, err := parseTemplate(format)
	if err != nil {
		return &FormatError{templateError{"template parsing error: " + err.Error()}}
	}
	line, err := inspectOne(tmpl, document)
	if err != nil {
		return err
	}
	line.WriteByte('\n')
	return write(w, line)
}
