package cli

import (
	"context"
	"fmt"
	"io"

	"strata/internal/build"
	"strata/internal/cli/render"
	"strata/internal/engine"
)

type (
	listedRule struct {
		File string `json:"file"`
		Line int    `json:"line"`
		Text string `json:"text"`
	}
	listedEntry struct {
		Path  string      `json:"path"`
		Type  string      `json:"type"`
		Files int         `json:"files"`
		Size  int64       `json:"size"`
		Taken bool        `json:"taken"`
		Rule  *listedRule `json:"rule,omitempty"`
	}
	listedSum struct {
		Files int   `json:"files"`
		Size  int64 `json:"size"`
	}
	listedDocument struct {
		Context    string        `json:"context"`
		IgnoreFile string        `json:"ignoreFile,omitempty"`
		Taken      listedSum     `json:"taken"`
		Left       listedSum     `json:"left"`
		Entries    []listedEntry `json:"entries"`
	}
)

// callContext lists what of the context a build sees, and the rule that took or left each path.
func callContext(ctx context.Context, e *engine.Engine, c *buildCall, o engine.BuildOptions, w io.Writer) error {
	in, err := e.BuildContext(ctx, o)
	if err != nil {
		return err
	}
	doc := listedDocument{Context: in.From(), IgnoreFile: in.IgnoreFile(), Entries: []listedEntry{}}
	err = in.List(ctx, func(l build.Listed) error {
		entry := listedEntry{Path: l.Path, Type: l.Type, Files: l.Files, Size: l.Size, Taken: l.Taken}
		if l.Rule != nil {
			entry.Rule = &listedRule{doc.IgnoreFile, l.Rule.Line, l.Rule.Text}
		}
		sum := &doc.Left
		if l.Taken {
			sum = &doc.Taken
		}
		sum.Files += l.Files
		sum.Size += l.Size
		doc.Entries = append(doc.Entries, entry)
		return nil
	})
	if err != nil {
		return err
	}
	if c.format == "json" {
		return writeJSON(w, doc)
	}
	printListed(w, doc)
	return nil
}

func printListed(w io.Writer, doc listedDocument) {
	rows := [][]string{{"CONTEXT", "SIZE", "PATH", "RULE"}}
	for _, e := range doc.Entries {
		what, name, rule := "left", e.Path, ""
		if e.Taken {
			what = "taken"
		}
		if e.Type == "directory" {
			name += "/"
		}
		if e.Rule != nil {
			rule = fmt.Sprintf("%s:%d: %s", e.Rule.File, e.Rule.Line, e.Rule.Text)
		}
		rows = append(rows, []string{what, render.HumanSize(e.Size), name, rule})
	}
	columns(w, 3, true, rows...)
	fmt.Fprintf(w, "taken: %s, left out: %s\n", summed(doc.Taken), summed(doc.Left))
}

func summed(s listedSum) string {
	noun := "files"
	if s.Files == 1 {
		noun = "file"
	}
	return fmt.Sprintf("%d %s, %s", s.Files, noun, render.HumanSize(s.Size))
}
