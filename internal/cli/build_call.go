package cli

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"strata/internal/build"
	"strata/internal/cli/render"
	"strata/internal/dockerfile"
	"strata/internal/engine"
	"strata/internal/errdef"
)

// buildCall is --call: what is asked of a Dockerfile instead of a build.
type buildCall struct {
	name, format string
	ignoreStatus bool
}

// parseCall reads --call and --check; nil is a build.
func (f *buildFlags) parseCall() (*buildCall, error) {
	if f.check {
		if f.call != "build" && f.call != "check" {
			return nil, usagef("--check and --call=%s are two questions: ask one at a time", f.call)
		}
		f.call = "check"
	}
	fields, err := csv.NewReader(strings.NewReader(f.call)).Read()
	if err != nil {
		return nil, usagef("--call %q: %v", f.call, err)
	}
	c := &buildCall{}
	for _, field := range fields {
		key, value, pair := strings.Cut(field, "=")
		switch {
		case !pair && c.name == "":
			c.name = field
		case pair && key == "format" && (value == "json" || value == "text"):
			c.format = value
		case pair && key == "ignorestatus":
			if c.ignoreStatus, err = strconv.ParseBool(value); err != nil {
				return nil, usagef("--call %q: ignorestatus: want true or false", f.call)
			}
		default:
			return nil, usagef("--call: invalid print field: %s", field)
		}
	}
	switch c.name {
	case "build":
		return nil, nil
	case "lint":
		c.name = "check"
	case "check", "outline", "targets", "context":
	default:
		return nil, usageError{errdef.WithHint(fmt.Errorf("--call %q: %w", c.name, errdef.ErrInvalid), "want check, outline, targets or context")}
	}
	return c, nil
}

func (a *app) runCall(ctx context.Context, c *buildCall, o engine.BuildOptions) error {
	return a.with(ctx, func(e *engine.Engine) error {
		w := bufio.NewWriter(a.out)
		var err error
		switch c.name {
		case "check":
			err = a.callCheck(ctx, e, c, o, w)
		case "outline":
			err = callOutline(ctx, e, c, o, w)
		case "targets":
			err = callTargets(ctx, e, c, o, w)
		default:
			err = callContext(ctx, e, c, o, w)
		}
		if e := w.Flush(); err == nil {
			err = e
		}
		var code status
		if err != nil && !errors.As(err, &code) {
			a.explainStep(err)
		}
		return err
	})
}

// writeJSON writes a document as BuildKit's front end does.
func writeJSON(w io.Writer, doc any) error {
	raw, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(raw, '\n'))
	return err
}

// The documents below are BuildKit's, by its names.
type (
	sourceLocation struct {
		SourceIndex int           `json:"sourceIndex,omitempty"`
		Ranges      []sourceRange `json:"ranges"`
	}
	sourceRange struct {
		Start sourcePosition `json:"start"`
		End   sourcePosition `json:"end"`
	}
	sourcePosition struct {
		Line int `json:"line"`
	}
	sourceInfo struct {
		Filename string `json:"filename"`
		Language string `json:"language"`
		Data     []byte `json:"data"`
	}
	lintWarning struct {
		RuleName    string          `json:"ruleName"`
		Description string          `json:"description,omitempty"`
		URL         string          `json:"url,omitempty"`
		Detail      string          `json:"detail,omitempty"`
		Location    *sourceLocation `json:"location,omitempty"`
	}
	lintDocument struct {
		Warnings []lintWarning `json:"warnings"`
		Sources  []sourceInfo  `json:"sources"`
		Error    *lintError    `json:"buildError,omitempty"`
	}
	lintError struct {
		Message  string          `json:"message"`
		Location *sourceLocation `json:"location"`
	}
)

func location(first, last int) *sourceLocation {
	return &sourceLocation{Ranges: []sourceRange{{sourcePosition{first}, sourcePosition{last}}}}
}

// callCheck prints the warnings in buildx's layout; the exit code is 1 when there are any.
func (a *app) callCheck(ctx context.Context, e *engine.Engine, c *buildCall, o engine.BuildOptions, w io.Writer) error {
	found, err := e.CheckBuild(ctx, o)
	if found.File == nil {
		return err
	}
	if c.format == "json" {
		var place *dockerfile.Error
		if err != nil && !errors.As(err, &place) {
			return err
		}
		if werr := writeJSON(w, lintJSON(found, place)); werr != nil {
			return werr
		}
	} else {
		printChecked(w, found, err != nil)
		if err != nil {
			return err
		}
	}
	if (len(found.Warnings) > 0 || err != nil) && !c.ignoreStatus {
		return status(1)
	}
	return nil
}

func lintJSON(found engine.Checked, place *dockerfile.Error) lintDocument {
	doc := lintDocument{Warnings: []lintWarning{}, Sources: []sourceInfo{{found.File.Name, "Dockerfile", found.File.Source}}}
	for _, warn := range found.Warnings {
		doc.Warnings = append(doc.Warnings, lintWarning{warn.Rule, warn.Description, warn.URL, warn.Text, location(warn.First, warn.Last)})
	}
	if place != nil {
		doc.Error = &lintError{place.Msg, location(place.First, place.Last)}
	}
	return doc
}

func printChecked(w io.Writer, found engine.Checked, failed bool) {
	switch n := len(found.Warnings); {
	case n == 1:
		fmt.Fprintln(w, "Check complete, 1 warning has been found!")
	case n > 1:
		fmt.Fprintf(w, "Check complete, %d warnings have been found!\n", n)
	case !failed:
		fmt.Fprintln(w, "Check complete, no warnings found.")
	}
	lines := strings.Split(string(found.File.Source), "\n")
	for _, warn := range found.Warnings {
		fmt.Fprintf(w, "\nWARNING: %s", warn.Rule)
		if warn.URL != "" {
			fmt.Fprintf(w, " - %s", warn.URL)
		}
		fmt.Fprintf(w, "\n%s\n", render.Clean(warn.Text))
		printSource(w, found.File.Name, lines, warn.First, warn.Last)
	}
}

// printSource shows lines with their surroundings, as buildx does.
func printSource(w io.Writer, name string, lines []string, first, last int) {
	if first < 1 || first > len(lines) {
		return
	}
	last = min(max(first, last), len(lines))
	from, to, pad := first, last, 2
	if first == last {
		pad = 4
	}
	for p := 0; p < pad; p++ {
		if from > 1 {
			from--
			p++
		}
		if to != len(lines) {
			to++
			p++
		}
	}
	fmt.Fprintf(w, "%s:%d\n--------------------\n", name, first)
	for i := from; i <= to; i++ {
		mark := "   "
		if i >= first && i <= last {
			mark = ">>>"
		}
		fmt.Fprintf(w, " %3d | %s %s\n", i, mark, render.Clean(strings.TrimSuffix(lines[i-1], "\r")))
	}
	fmt.Fprintln(w, "--------------------")
}

type (
	outlineArg struct {
		Name        string          `json:"name"`
		Description string          `json:"description,omitempty"`
		Value       string          `json:"value,omitempty"`
		Location    *sourceLocation `json:"location,omitempty"`
	}
	outlineNeed struct {
		Name     string          `json:"name"`
		Required bool            `json:"required,omitempty"`
		Location *sourceLocation `json:"location,omitempty"`
	}
	outlineDocument struct {
		Name        string        `json:"name,omitempty"`
		Description string        `json:"description,omitempty"`
		Args        []outlineArg  `json:"args,omitempty"`
		Secrets     []outlineNeed `json:"secrets,omitempty"`
		SSH         []outlineNeed `json:"ssh,omitempty"`
		Sources     [][]byte      `json:"sources,omitempty"`
	}
)

func callOutline(ctx context.Context, e *engine.Engine, c *buildCall, o engine.BuildOptions, w io.Writer) error {
	out, file, err := e.OutlineBuild(ctx, o)
	if err != nil {
		return err
	}
	if c.format == "json" {
		doc := outlineDocument{Name: out.Name, Description: out.Description, Secrets: needs(out.Secrets), SSH: needs(out.Agents), Sources: [][]byte{file.Source}}
		for _, arg := range out.Args {
			doc.Args = append(doc.Args, outlineArg{arg.Name, arg.Description, arg.Value, location(arg.Lines.First, arg.Lines.Last)})
		}
		return writeJSON(w, doc)
	}
	if out.Name != "" || out.Description != "" {
		name := out.Name
		if name == "" {
			name = "(default)"
		}
		rows := [][]string{{"TARGET:", name}}
		if out.Description != "" {
			rows = append(rows, []string{"DESCRIPTION:", out.Description})
		}
		columns(w, 1, true, rows...)
	}
	if len(out.Args) > 0 {
		rows := [][]string{{"BUILD ARG", "VALUE", "DESCRIPTION"}}
		for _, arg := range out.Args {
			rows = append(rows, []string{arg.Name, arg.Value, arg.Description})
		}
		columns(w, 3, true, rows...)
	}
	printNeeds(w, "SECRET", out.Secrets)
	printNeeds(w, "SSH", out.Agents)
	return nil
}

func needs(all []build.OutlineNeed) []outlineNeed {
	var out []outlineNeed
	for _, n := range all {
		out = append(out, outlineNeed{n.Name, n.Required, location(n.Lines.First, n.Lines.Last)})
	}
	return out
}

func printNeeds(w io.Writer, title string, all []build.OutlineNeed) {
	if len(all) == 0 {
		return
	}
	rows := [][]string{{title, "REQUIRED"}}
	for _, n := range all {
		required := ""
		if n.Required {
			required = "true"
		}
		rows = append(rows, []string{n.Name, required})
	}
	columns(w, 3, true, rows...)
}

// columns prints rows under each other, padding blanks apart.
func columns(w io.Writer, padding int, blank bool, rows ...[]string) {
	tw := tabwriter.NewWriter(w, 0, 0, padding, ' ', 0)
	for _, row := range rows {
		var cells []string
		for _, cell := range row {
			cells = append(cells, strings.ReplaceAll(render.Clean(cell), "\t", " "))
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	tw.Flush()
	if blank {
		fmt.Fprintln(w)
	}
}

type (
	targetDocument struct {
		Name        string          `json:"name,omitempty"`
		Default     bool            `json:"default,omitempty"`
		Description string          `json:"description,omitempty"`
		Base        string          `json:"base,omitempty"`
		Platform    string          `json:"platform,omitempty"`
		Location    *sourceLocation `json:"location,omitempty"`
	}
	targetsDocument struct {
		Targets []targetDocument `json:"targets"`
		Sources [][]byte         `json:"sources"`
	}
)

func callTargets(ctx context.Context, e *engine.Engine, c *buildCall, o engine.BuildOptions, w io.Writer) error {
	all, file, err := e.BuildTargets(ctx, o)
	if err != nil {
		return err
	}
	if c.format == "json" {
		doc := targetsDocument{Sources: [][]byte{file.Source}}
		for _, t := range all {
			doc.Targets = append(doc.Targets, targetDocument{t.Name, t.Default, t.Description, t.Base, t.Platform, location(t.Lines.First, t.Lines.Last)})
		}
		return writeJSON(w, doc)
	}
	rows := [][]string{{"TARGET", "DESCRIPTION"}}
	for _, t := range all {
		name := t.Name
		switch {
		case name == "" && t.Default:
			name = "(default)"
		case t.Default:
			name += " (default)"
		}
		rows = append(rows, []string{name, t.Description})
	}
	columns(w, 1, false, rows...)
	return nil
}
