package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"strata/internal/engine"
)

func TestBuildOutput(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{out: &strings.Builder{}}
	good := map[string]engine.Output{
		"out":                 {Type: engine.OutputLocal, Dir: "out", Dest: "out"},
		"-":                   {Type: engine.OutputTar, Dest: "-"},
		"type=tar":            {Type: engine.OutputTar, Dest: "-"},
		"type=docker":         {Type: engine.OutputImage},
		"type=oci,dest=x.tar": {Type: engine.OutputOCI, Dest: "x.tar"},
		"type=registry":       {Type: engine.OutputImage, Push: true},
		"type=registry,compression=uncompressed,oci-mediatypes=false": {
			Type: engine.OutputImage, Push: true, Form: engine.PushForm{Compression: "none", DockerTypes: true},
		},
		"type=image,store=true,unpack=1,compression=zstd,compression-level=3,force-compression=true": {
			Type: engine.OutputImage, Form: engine.PushForm{Compression: "zstd", Level: 3, Force: true},
		},
	}
	for text, want := range good {
		got, _, err := a.buildOutput(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if needs := want.Type == engine.OutputTar || want.Type == engine.OutputOCI; needs != (got.Write != nil) {
			t.Errorf("%s: a writer: %v", text, got.Write != nil)
		}
		if got.Type != want.Type || got.Dir != want.Dir || got.Dest != want.Dest || got.Push != want.Push || got.Form != want.Form {
			t.Errorf("%s: %+v", text, got)
		}
	}
	for _, text := range []string{
		"type=", "type=oci,dest", "type=nothing", "dest=x", "type=local", "type=local,dest=-", "type=local,dest=" + file, "type=tar,dest=" + dir,
		"type=tar,compression=gzip", "type=oci,compression=lzma", "type=oci,compression-level=x", "type=oci,tar=false", "type=oci,tar=maybe",
		"type=image,store=false", "type=registry,push=false", "type=local,dest=x,annotation.a=b", "type=oci,annotation=x", "type=oci,annotation-nowhere.a=b",
		`type=image,"name=a`, "type=image,name=a/b:1,push-by-digest=true",
	} {
		if _, _, err := a.buildOutput(text); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

func TestBuildAnnotation(t *testing.T) {
	a := &app{out: &strings.Builder{}}
	out, annotations, err := a.buildOutput(`type=image,"name=a,b:1",annotation.x=1,annotation-index.y.z=2,annotation-manifest[linux/arm64].w=3`)
	if err != nil || len(out.Names) != 2 || len(annotations) != 3 {
		t.Fatalf("%v %v %v", out.Names, annotations, err)
	}
	for _, one := range annotations {
		switch one.Key {
		case "x":
			if one.On != engine.OnManifest || one.Platform != nil {
				t.Errorf("%+v", one)
			}
		case "y.z":
			if one.On != engine.OnIndex || one.Value != "2" {
				t.Errorf("%+v", one)
			}
		case "w":
			if one.On != engine.OnManifest || one.Platform == nil || one.Platform.Architecture != "arm64" {
				t.Errorf("%+v", one)
			}
		default:
			t.Errorf("%+v", one)
		}
	}
	both, err := buildAnnotation("index,manifest:k=v=w")
	if err != nil || len(both) != 2 || both[0].On != engine.OnIndex || both[1].On != engine.OnManifest || both[1].Value != "v=w" {
		t.Errorf("%+v %v", both, err)
	}
	for _, text := range []string{"", "k", "=v", "manifest:=v", "nowhere:k=v", "index[linux/arm64]:k=v", "manifest[no/such/x/y]:k=v"} {
		if _, err := buildAnnotation(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func FuzzBuildOutput(f *testing.F) {
	f.Add(`type=image,"name=a,b",annotation[linux/arm64].k=v`)
	f.Add("type=oci,tar=false,dest=x")
	f.Fuzz(func(_ *testing.T, text string) {
		_, _, _ = (&app{out: &strings.Builder{}}).buildOutput(text)
		_, _ = buildAnnotation(text)
	})
}
