package render_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"strata/internal/cli/render"
	"strata/internal/errdef"
	"strata/internal/oci"
)

func inspected() []render.ImageInspect {
	config := render.NewImageConfig(oci.Config{Env: []string{"A=<b>"}, Cmd: []string{"sh"}, Labels: map[string]string{"x.y": "z"}})
	return []render.ImageInspect{{
		ID: "sha256:11", RepoTags: []string{"app:1"}, Config: config, Architecture: "amd64", Os: "linux", Size: 123456789,
		RootFS: render.ImageRootFS{Type: "layers", Layers: []oci.DiffID{"sha256:aa", "sha256:bb"}},
	}}
}

func TestInspectTemplates(t *testing.T) {
	for format, want := range map[string]string{
		`{{.Id}}`:                            "sha256:11",
		`{{.ID}}`:                            "sha256:11",
		`{{.Id}} {{.Size}}`:                  "sha256:11 123456789",
		`{{.Config.Env}}`:                    "[A=<b>]",
		`{{json .Config.Env}}`:               `["A=<b>"]`,
		`{{index .Config.Labels "x.y"}}`:     "z",
		`{{index .Config.Labels "no"}}|`:     "|",
		`{{.RootFS.Layers}}`:                 "[sha256:aa sha256:bb]",
		`{{len .RootFS.Layers}}`:             "2",
		`{{index .RepoTags 0}}`:              "app:1",
		`{{range .Config.Env}}{{.}};{{end}}`: "A=<b>;",
		`{{join .Config.Cmd ","}}`:           "sh",
		`{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}{{end}}`: "x.y=z",
		`{{json .RootFS}}`: `{"Type":"layers","Layers":["sha256:aa","sha256:bb"]}`,
	} {
		var b strings.Builder
		if err := render.Inspect(&b, format, inspected()); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if b.String() != want+"\n" {
			t.Errorf("%s: got %q, want %q", format, b.String(), want)
		}
	}
}

func TestInspectErrors(t *testing.T) {
	for format, want := range map[string]string{
		`{{.Foo}}`:         `template parsing error: template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"`,
		`{{.Config.Nope}}`: `template parsing error: template: :1:9: executing "" at <.Config.Nope>: map has no entry for key "Nope"`,
		`{{.Id`:            `template parsing error: template: :1: unclosed action`,
		`{{nope .Id}}`:     `template parsing error: template: :1: function "nope" not defined`,
	} {
		var b strings.Builder
		err := render.Inspect(&b, format, inspected())
		if err == nil || err.Error() != want || !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%s: got error %v, want %s", format, err, want)
		}
	}
}

func TestInspectArrays(t *testing.T) {
	type doc struct {
		ID   string `json:"Id"`
		Args []string
	}
	docs := []doc{{"<1>", []string{}}, {"2", nil}}
	for _, c := range []struct {
		format string
		docs   []doc
		want   string
	}{
		{"", docs, "[\n    {\n        \"Id\": \"<1>\",\n        \"Args\": []\n    },\n    {\n        \"Id\": \"2\",\n        \"Args\": null\n    }\n]\n"},
		{"json", docs, "[{\"Id\":\"<1>\",\"Args\":[]},{\"Id\":\"2\",\"Args\":null}]\n"},
		{"", nil, "[]\n"},
		{"json", nil, "[]\n"},
		{"{{.Id}}", nil, ""},
		{"{{.Id}}", docs, "<1>\n2\n"},
	} {
		var b strings.Builder
		if err := render.Inspect(&b, c.format, c.docs); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, b.String()); diff != "" {
			t.Errorf("%q: %s", c.format, diff)
		}
	}
}

// TestContainerInspectPaths asks for what scripts ask docker for.
func TestContainerInspectPaths(t *testing.T) {
	doc := render.ContainerInspect{
		ID: "cc", Name: "/web", State: render.ContainerInspectState{Status: "exited", ExitCode: 3, OOMKilled: true},
		HostConfig: render.HostConfig{DNS: []string{"1.1.1.1"}, NetworkMode: "host", AutoRemove: true},
		Config:     render.ContainerConfig{Tty: true, Env: []string{"A=1"}},
		Mounts:     []render.MountPoint{{Type: "bind", Source: "/a", Destination: "/b", RW: true}},
		NetworkSettings: render.NetworkSettings{
			Networks: map[string]*render.EndpointSettings{"host": {IPAddress: "10.0.0.1"}},
		},
	}
	for format, want := range map[string]string{
		`{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}`: "exited 3 true",
		`{{.State.Running}}`:                                           "false",
		`{{.HostConfig.NetworkMode}}`:                                  "host",
		`{{.HostConfig.Dns}}`:                                          "[1.1.1.1]",
		`{{.Config.Tty}} {{.Config.Env}}`:                              "true [A=1]",
		`{{range .Mounts}}{{.Source}}:{{.Destination}}:{{.RW}}{{end}}`: "/a:/b:true",
		`{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{$e.IPAddress}}{{end}}`: "host 10.0.0.1",
		`{{.Id}}{{.Name}}`: "cc/web",
	} {
		var b strings.Builder
		if err := render.Inspect(&b, format, []render.ContainerInspect{doc}); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if b.String() != want+"\n" {
			t.Errorf("%s: got %q, want %q", format, b.String(), want)
		}
	}
}
