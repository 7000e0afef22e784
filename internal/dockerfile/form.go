package dockerfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// RuleExecForm names the warning about an exec form that is none.
const RuleExecForm = "ExecFormInvalid"

// checkForms looks for exec forms that are not JSON: BuildKit takes them for a shell command or for file names, and
// something fails later that does not say why.
func (f *File) checkForms() error {
	for _, n := range f.ast.Children {
		place := n
		if strings.EqualFold(n.Value, command.Onbuild) && n.Next != nil && len(n.Next.Children) == 1 {
			n = n.Next.Children[0]
		}
		if mended := dashes(n); mended != "" {
			return f.fail(place.StartLine, place.EndLine, errors.New("a long dash in the place of the two hyphens of a flag"), mended)
		}
		problem, mended := checkForm(n)
		if problem == "" {
			continue
		}
		if mended != "" {
			mended = strings.Replace(strings.TrimSpace(place.Original), formArgs(n), mended, 1)
		}
		if failsAnyway(n.Value) || strings.Contains(problem, "curly") {
			return f.fail(place.StartLine, place.EndLine, errors.New(problem), mended)
		}
		if mended != "" {
			problem += "; write: " + mended
		}
		f.warn(RuleExecForm, "", problem, place.Location())
	}
	return nil
}

// failsAnyway: with these a wrong exec form cannot build; with the others (CMD, ENTRYPOINT, …) it gives an image that
// cannot run, which BuildKit accepts and we warn of.
func failsAnyway(instruction string) bool {
	switch strings.ToLower(instruction) {
	case command.Run, command.Copy, command.Add, command.Shell:
		return true
	}
	return false
}

// checkForm finds what is wrong with an instruction's exec form and, where it can, arguments that are right.
func checkForm(n *parser.Node) (problem, mended string) {
	if n.Attributes["json"] || !hasExecForm(n.Value) {
		return "", ""
	}
	args := formArgs(n)
	inner, ok := strings.CutPrefix(args, "[")
	if !ok {
		return "", ""
	}
	inner = strings.TrimSpace(inner)
	switch {
	case startsWithAny(inner, curlyQuotes):
		mended := ifArray(straighten(args, curlyQuotes))
		if mended != "" || !strings.HasPrefix(args, "[ ") {
			return "curly quotes in the exec form: JSON strings stand in straight double quotes", mended
		}
	case strings.HasPrefix(inner, "'"):
		// A shell test may start so: only what turns into a clean array is meant as one.
		if mended := ifArray(straighten(args, []string{"'"})); mended != "" {
			return "single quotes in the exec form: JSON strings stand in double quotes", mended
		}
	case bareWords(args):
		return "words without quotes in the exec form: JSON strings stand in double quotes", ifArray(quoteWords(args))
	case strings.HasPrefix(args, `["`):
		// No shell command starts so: there is always a blank after the command [.
		return brokenArray(args)
	}
	return "", ""
}

func hasExecForm(instruction string) bool {
	switch strings.ToLower(instruction) {
	case command.Run, command.Cmd, command.Entrypoint, command.Copy, command.Add, command.Shell, command.Volume, command.Healthcheck:
		return true
	}
	return false
}

// formArgs is the text that would be the JSON array, as far as the parser kept it.
func formArgs(n *parser.Node) string {
	arg := n.Next
	if strings.EqualFold(n.Value, command.Healthcheck) && arg != nil {
		arg = arg.Next
	}
	if arg == nil {
		return ""
	}
	// The words of COPY have lost the blanks between them: find the text again where the first word starts.
	if i := strings.Index(n.Original, arg.Value); i >= 0 {
		return strings.TrimSpace(n.Original[i:])
	}
	return arg.Value
}

var curlyQuotes = []string{"“", "”", "„", "‟", "«", "»", "‘", "’", "‚", "″"}

func startsWithAny(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

func straighten(s string, quotes []string) string {
	for _, q := range quotes {
		s = strings.ReplaceAll(s, q, `"`)
	}
	return s
}

func ifArray(s string) string {
	var list []string
	if json.Unmarshal([]byte(s), &list) != nil {
		return ""
	}
	return s
}

// bareWords reports whether args are an array whose strings lack quotes, "[npm, start]": a shell's test has a blank after [.
func bareWords(args string) bool {
	inner, ok := strings.CutPrefix(args, "[")
	inner, closed := strings.CutSuffix(strings.TrimSpace(inner), "]")
	return ok && closed && !strings.HasPrefix(args, "[ ") && strings.Contains(inner, ",") && !strings.ContainsAny(inner, "\"'“”$`")
}

func quoteWords(args string) string {
	words := strings.Split(strings.Trim(args, "[] "), ",")
	for i, w := range words {
		words[i] = `"` + strings.TrimSpace(w) + `"`
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// brokenArray says what is wrong with a JSON array, and tries the usual mends.
func brokenArray(args string) (problem, mended string) {
	dec := json.NewDecoder(strings.NewReader(args))
	var list []string
	if dec.Decode(&list) == nil {
		end := dec.InputOffset()
		return fmt.Sprintf("text after the exec form's closing bracket: %.60q", strings.TrimSpace(args[end:])), args[:end]
	}
	end := strings.LastIndexByte(args, ']')
	body := args
	if end >= 0 {
		body = args[:end]
	}
	problem = "the exec form is not a JSON array of strings"
	switch trimmed := strings.TrimRight(body, " \t"); {
	case end < 0:
		problem += ": its closing bracket is missing"
	case strings.HasSuffix(trimmed, ","):
		problem += ": a comma stands before its closing bracket"
	}
	body = strings.TrimRight(body, " \t,")
	for _, try := range []string{body + "]", strings.Join(strings.Fields(body), " ") + "]", commas(body) + "]"} {
		if fixed := ifArray(try); fixed != "" {
			return problem, fixed
		}
	}
	return problem, ""
}

// commas puts the missing comma between two strings.
func commas(body string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(body), " "), `" "`, `", "`)
}
