package container

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/oci"
)

func TestMerge(t *testing.T) {
	img := oci.Config{Entrypoint: []string{"/e"}, Cmd: []string{"c"}, Env: []string{"A=1", "B=2"}, User: "u", WorkingDir: "/w",
		Labels: map[string]string{"k": "i", "l": "i"}}
	tests := []struct {
		name       string
		user       Config
		entry, cmd []string
	}{
		{"image's own", Config{}, []string{"/e"}, []string{"c"}},
		{"command", Config{Cmd: []string{"x"}}, []string{"/e"}, []string{"x"}},
		{"entrypoint drops the command", Config{Entrypoint: []string{"/x"}}, []string{"/x"}, nil},
		{"empty entrypoint", Config{Entrypoint: []string{""}, Cmd: []string{"x"}}, nil, []string{"x"}},
	}
	for _, tt := range tests {
		got := merge(tt.user, img)
		if !slices.Equal(got.Entrypoint, tt.entry) || !slices.Equal(got.Cmd, tt.cmd) {
			t.Errorf("%s: %q %q", tt.name, got.Entrypoint, got.Cmd)
		}
	}
	got := merge(Config{Env: []string{"B=3"}, Labels: map[string]string{"k": "u"}}, img)
	if !slices.Equal(got.Env, []string{"B=3", "A=1"}) || got.Labels["k"] != "u" || got.Labels["l"] != "i" || got.User != "u" || got.WorkingDir != "/w" {
		t.Errorf("%+v", got)
	}
}

func TestParseBind(t *testing.T) {
	b, err := ParseBind("/a/../b:/c/:ro")
	if err != nil || b != (Bind{Source: "/b", Destination: "/c", ReadOnly: true, CreateSource: true}) {
		t.Errorf("%+v %v", b, err)
	}
	if b, err := ParseBind("/x"); err != nil || b.Source != "" || b.Destination != "/x" {
		t.Errorf("%+v %v", b, err)
	}
	for spec, class := range map[string]error{
		"a:b:c:d": errdef.ErrInvalid, "/a:/": errdef.ErrInvalid, "/a:b": errdef.ErrInvalid, "/a:/b:zz": errdef.ErrInvalid, "name:/b": errdef.ErrInvalid, "x": errdef.ErrInvalid,
	} {
		if _, err := ParseBind(spec); !errors.Is(err, class) {
			t.Errorf("%q: %v", spec, err)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for s, want := range map[string]unix.Signal{"TERM": 15, "sigkill": 9, "1": 1, "SIGRTMIN+3": 37, "RTMAX": 64, "RTMAX-1": 63} {
		if got, err := ParseSignal(s); err != nil || got != want {
			t.Errorf("%q: %d %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "65", "FOO", "SIG", "RTMIN+99", "-9"} {
		if got, err := ParseSignal(s); !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%q: %d %v", s, got, err)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	s := testStore(t)
	ok := Config{Cmd: []string{"true"}}
	for name, o := range map[string]CreateOptions{
		"no command":      {},
		"bad network":     {Config: ok, Host: HostConfig{Network: "nosuch"}},
		"bad name":        {Config: ok, Name: "a b"},
		"mount over root": {Config: ok, Host: HostConfig{Tmpfs: map[string]string{"/": ""}}},
		"same mount":      {Config: ok, Host: HostConfig{Tmpfs: map[string]string{"/a": ""}, Binds: []Bind{{Source: "/", Destination: "/a/"}}}},
		"relative cwd":    {Config: Config{Cmd: ok.Cmd, WorkingDir: "x"}},
		"stop signal":     {Config: Config{Cmd: ok.Cmd, StopSignal: "NOPE"}},
	} {
		if _, err := s.Create(t.Context(), o); err == nil {
			t.Errorf("%s: created", name)
		}
	}
	if all, err := s.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("left: %v %v", all, err)
	}
}

func TestAnonymousVolumes(t *testing.T) {
	s := testStore(t)
	rec, err := s.Create(t.Context(), CreateOptions{
		Config:      Config{Cmd: []string{"true"}, Volumes: map[string]struct{}{"/data": {}}},
		ImageConfig: oci.Config{Volumes: map[string]struct{}{"/db/": {}, "/bound": {}, "/tmp": {}}},
		Host:        HostConfig{Binds: []Bind{{Source: "/", Destination: "/bound"}}, Tmpfs: map[string]string{"/tmp": ""}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(rec.Volumes) != 2 || rec.Volumes[0].Destination != "/data" || rec.Volumes[1].Destination != "/db" {
		t.Fatalf("%+v", rec.Volumes)
	}
	if err := s.Remove(t.Context(), rec, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.getVolume(rec.Volumes[0].Name); err != nil {
		t.Error("rm without -v removed the volume:", err)
	}
	if _, err := s.setAside("../x"); !errors.Is(err, errdef.ErrInvalid) {
		t.Error(err)
	}
}
