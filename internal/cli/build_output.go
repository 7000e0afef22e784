package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/term"

	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/oci"
)

// outputAttributes are the attributes of each type of --output that have a meaning here.
var outputAttributes = map[string]string{
	"image":    "name push push-by-digest name-canonical unpack store " + imageAttributes,
	"registry": "name push push-by-digest name-canonical unpack store " + imageAttributes,
	"docker":   "name dest " + imageAttributes,
	"oci":      "name dest tar " + imageAttributes,
	"tar":      "dest platform-split",
	"local":    "dest platform-split mode",
}

const imageAttributes = "compression compression-level force-compression oci-mediatypes"

// outputSpec is one --output as it was typed.
type outputSpec struct {
	text, kind string
	attributes map[string]string
	to         engine.Output
	// annotations of what the output writes.
	annotations []engine.Annotation
}

// buildOutput reads one --output: type=…,KEY=VALUE…, a directory, or - for a tar on standard output.
func (a *app) buildOutput(text string) (engine.Output, []engine.Annotation, error) {
	s := outputSpec{text: text}
	err := s.read()
	if err == nil {
		err = s.fill(a)
	}
	if err != nil {
		return s.to, nil, usageError{fmt.Errorf("--output %s: %w", text, err)}
	}
	return s.to, s.annotations, nil
}

// read tells the attributes apart.
func (s *outputSpec) read() error {
	s.attributes = map[string]string{}
	if !strings.Contains(s.text, "=") {
		s.kind, s.attributes["dest"] = "local", s.text
		if s.text == "-" {
			s.kind = "tar"
		}
		return nil
	}
	fields, err := csv.NewReader(strings.NewReader(s.text)).Read()
	if err != nil {
		return fmt.Errorf("want KEY=VALUE,KEY=VALUE: %w: %w", err, errdef.ErrInvalid)
	}
	for _, field := range fields {
		name, value, ok := strings.Cut(field, "=")
		if !ok {
			return errdef.WithHint(fmt.Errorf("%q: want KEY=VALUE: %w", field, errdef.ErrInvalid), "several names stand in quotes: 'type=registry,\"name=a,b\"'")
		}
		if name = strings.ToLower(strings.TrimSpace(name)); name == "type" {
			s.kind = value
			continue
		}
		s.attributes[name] = value
	}
	if s.kind == "" {
		return errdef.WithHint(fmt.Errorf("it has no type: %w", errdef.ErrInvalid), "type=docker, oci, tar, local, registry or image")
	}
	return nil
}

// fill makes the output of the attributes; every one is understood or an error.
func (s *outputSpec) fill(a *app) error {
	known, ok := outputAttributes[s.kind]
	if !ok {
		return errdef.WithHint(fmt.Errorf("type %q: %w", s.kind, errdef.ErrUnsupported), "type=docker, oci, tar, local, registry or image")
	}
	s.to.Type = engine.OutputType(s.kind)
	for _, name := range sortedKeys(s.attributes) {
		if strings.HasPrefix(name, "annotation") {
			if err := s.annotate(name, s.attributes[name]); err != nil {
				return err
			}
			continue
		}
		if !word(known, name) {
			return errdef.WithHint(fmt.Errorf("attribute %q of type %s: %w", name, s.kind, errdef.ErrUnsupported), "it has: "+known)
		}
		if err := s.set(name, s.attributes[name]); err != nil {
			return err
		}
	}
	if err := layer.CheckCompression(s.to.Form.Compression, s.to.Form.Level); err != nil {
		return err
	}
	if s.kind == "registry" {
		s.to.Type, s.to.Push = engine.OutputImage, true
	}
	if s.to.Form.ByDigest {
		for _, name := range s.to.Names {
			if strings.Contains(name[strings.LastIndexByte(name, '/')+1:], ":") {
				return fmt.Errorf("name %q: a tag cannot be pushed by digest: %w", name, errdef.ErrInvalid)
			}
		}
	}
	return s.place(a)
}

// annotate reads annotation.KEY, annotation-index.KEY, annotation[linux/arm64].KEY and their kin.
func (s *outputSpec) annotate(name, value string) error {
	if s.kind == "tar" || s.kind == "local" {
		return fmt.Errorf("%s: files have no annotations: %w", name, errdef.ErrUnsupported)
	}
	place, key, ok := strings.Cut(strings.TrimPrefix(name, "annotation"), ".")
	if i := strings.Index(name, "]."); i >= 0 { // the platform may have a dot
		place, key = strings.TrimPrefix(name[:i+1], "annotation"), name[i+2:]
	}
	if !ok {
		return fmt.Errorf("attribute %q: want annotation.KEY=VALUE: %w", name, errdef.ErrInvalid)
	}
	all, err := annotationPlaces(strings.TrimPrefix(place, "-"), key, value)
	s.annotations = append(s.annotations, all...)
	return err
}

func (s *outputSpec) set(name, value string) (err error) {
	switch name {
	case "dest":
	case "name":
		s.to.Names = strings.Split(value, ",")
	case "compression":
		if s.to.Form.Compression = value; value == "uncompressed" {
			s.to.Form.Compression = layer.None
		} else if value != layer.Gzip && value != layer.Zstd {
			return fmt.Errorf("compression %q: uncompressed, gzip or zstd: %w", value, errdef.ErrUnsupported)
		}
	case "compression-level":
		if s.to.Form.Level, err = strconv.Atoi(value); err != nil {
			return fmt.Errorf("%s %q: want a number: %w", name, value, errdef.ErrInvalid)
		}
	case "mode":
		if value != "copy" {
			return fmt.Errorf("mode=%s: files are copied into the directory, and none are deleted: %w", value, errdef.ErrUnsupported)
		}
	default:
		on, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%s %q: want true or false: %w", name, value, errdef.ErrInvalid)
		}
		return s.turn(name, on)
	}
	return nil
}

// turn sets what is true or false.
func (s *outputSpec) turn(name string, on bool) error {
	always := func(why string) error {
		if on {
			return nil
		}
		return fmt.Errorf("%s=false: %s: %w", name, why, errdef.ErrUnsupported)
	}
	switch name {
	case "push":
		if !on && s.kind == "registry" {
			return fmt.Errorf("push=false: type=image does not push: %w", errdef.ErrInvalid)
		}
		s.to.Push = on
	case "push-by-digest":
		s.to.Form.ByDigest = on
	case "force-compression":
		s.to.Form.Force = on
	case "oci-mediatypes":
		if s.kind == "docker" || s.kind == "oci" {
			return always("archives have the OCI's media types")
		}
		s.to.Form.DockerTypes = !on
	case "tar":
		if !on && s.attributes["dest"] == "" {
			return fmt.Errorf("tar=false: it needs a directory, dest=DIR: %w", errdef.ErrInvalid)
		}
	case "platform-split":
		s.to.Split = &on
	case "store":
		return always("the image always goes into the store")
	case "unpack":
		return always("the store has layers unpacked")
	case "name-canonical":
		return always("the store knows what was pushed by its digest, too")
	}
	return nil
}

// place says where the output goes.
func (s *outputSpec) place(a *app) error {
	dest := s.attributes["dest"]
	s.to.Dest = dest
	switch {
	case s.to.Type == engine.OutputImage:
		return nil
	case s.kind == "docker" && dest == "":
		s.to.Type = engine.OutputImage // docker's own store is this one
		return nil
	case s.kind == "local" && dest == "", s.kind == "local" && dest == "-":
		return fmt.Errorf("it needs a directory: dest=DIR: %w", errdef.ErrInvalid)
	case s.kind == "local", s.attributes["tar"] != "" && !truth(s.attributes["tar"]):
		s.to.Dir = dest
		if st, err := os.Stat(dest); err == nil && !st.IsDir() {
			return fmt.Errorf("%s is a file, not a directory: %w", dest, errdef.ErrInvalid)
		}
		return nil
	}
	if dest == "" || dest == "-" {
		s.to.Dest = "-"
		if f, ok := a.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			return errdef.WithHint(errors.New("refusing to write to the terminal"), "add dest=FILE, or redirect the output")
		}
	} else if st, err := os.Stat(dest); err == nil && st.IsDir() {
		return fmt.Errorf("%s is a directory: want a file: %w", dest, errdef.ErrInvalid)
	}
	s.to.Write = func(fn func(w io.Writer) error) error { return a.output(s.to.Dest, fn) }
	return nil
}

func truth(s string) bool {
	on, err := strconv.ParseBool(s)
	return err == nil && on
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// buildAnnotation reads --annotation: KEY=VALUE, or PLACE[PLATFORM][,PLACE…]:KEY=VALUE.
func buildAnnotation(text string) ([]engine.Annotation, error) {
	before, value, ok := strings.Cut(text, "=")
	if !ok || before == "" {
		return nil, usagef("--annotation %q: want KEY=VALUE", text)
	}
	places, key := "", before
	if i := strings.IndexByte(before, ':'); i >= 0 {
		places, key = before[:i], before[i+1:]
	}
	var all []engine.Annotation
	for place := range strings.SplitSeq(places, ",") {
		more, err := annotationPlaces(place, key, value)
		if err != nil {
			return nil, usageError{fmt.Errorf("--annotation %s: %w", text, err)}
		}
		all = append(all, more...)
	}
	return all, nil
}

// annotationPlaces reads where an annotation is to stand: "", "index", "manifest[linux/arm64]".
func annotationPlaces(place, key, value string) ([]engine.Annotation, error) {
	at := engine.Annotation{On: engine.OnManifest, Key: key, Value: value}
	name, platform, ok := strings.Cut(place, "[")
	if ok {
		p, err := oci.ParsePlatform(strings.TrimSuffix(platform, "]"))
		if err != nil {
			return nil, err
		}
		at.Platform = &p
	}
	switch on := engine.AnnotationPlace(name); {
	case key == "":
		return nil, fmt.Errorf("annotation without a key: %w", errdef.ErrInvalid)
	case name == "":
	case on == engine.OnManifest, on == engine.OnManifestDescriptor, on == engine.OnIndex && !ok:
		at.On = on
	default:
		return nil, errdef.WithHint(fmt.Errorf("annotation of %q: %w", place, errdef.ErrUnsupported), "manifest, index or manifest-descriptor")
	}
	return []engine.Annotation{at}, nil
}
