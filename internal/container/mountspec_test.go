package container

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMountSpecs(t *testing.T) {
	var m Mounts
	for _, s := range []string{"type=bind,src=/etc,dst=/a,ro,bind-propagation=rslave,bind-nonrecursive", "source=vol,target=/b/,volume-nocopy,volume-opt=type=tmpfs,volume-opt=device=x", "target=/c", `type=image,source=img,target=/d,"image-subpath=e,f"`} {
		if err := m.AddMount(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"named:/e:ro,nocopy", "/f", "/etc:/g:shared"} {
		if err := m.AddVolume(s); err != nil {
			t.Error(err)
		}
	}
	want := Mounts{
		Binds: []Bind{{Source: "/etc", Destination: "/a", ReadOnly: true, Propagation: "rslave", NonRecursive: true}, {Source: "/etc", Destination: "/g", CreateSource: true, Propagation: "shared"}},
		Volumes: []Volume{
			{Name: "vol", Named: true, Destination: "/b", NoCopy: true, New: VolumeOptions{Options: map[string]string{"type": "tmpfs", "device": "x"}}},
			{Destination: "/c"}, {Name: "named", Named: true, Destination: "/e", ReadOnly: true, NoCopy: true}, {Destination: "/f"},
		},
		Images: []ImageMount{{Image: "img", Destination: "/d", Subpath: "e,f"}},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", "type=bind,src=/etc", "type=bind,src=/etc,dst=x", "type=bind,dst=/x", "type=x,dst=/x", "dst=/", "type=tmpfs,src=/a,dst=/b", "dst=/x,bind-propagation=shared", "type=bind,src=/etc,dst=/x,bind-propagation=x", "src=..,dst=/x", "src=vol,dst=/x,volume-subpath=../y", "dst=/x,ro=maybe", "dst=/x,volume-driver=nfs", "type=tmpfs,dst=/x,tmpfs-mode=9", `"`} {
		if err := m.AddMount(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	for _, bad := range []string{"vol:/", "vol:x", "vol:/x:nonsense", "a:/x", "vol:/x:ro:rw", "x", "-x:/y"} {
		if err := m.AddVolume(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestVolumesOfOthersGiveWay(t *testing.T) {
	other := Record{Host: HostConfig{Binds: []Bind{{Source: "/x", Destination: "/a"}, {Source: "/y", Destination: "/b"}}}, Volumes: []Volume{{Name: "vv", Destination: "/c"}, {Name: "ww", Destination: "/d"}}}
	m := Mounts{Binds: []Bind{{Source: "/own", Destination: "/a"}}, Volumes: []Volume{{Name: "own", Destination: "/d"}}}
	m.from(other, true)
	want := Mounts{
		Binds:   []Bind{{Source: "/own", Destination: "/a"}, {Source: "/y", Destination: "/b", ReadOnly: true}},
		Volumes: []Volume{{Name: "own", Destination: "/d"}, {Name: "vv", Destination: "/c", ReadOnly: true, Named: true}},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error(diff)
	}
}

func FuzzMount(f *testing.F) {
	for _, s := range []string{"type=bind,src=/etc,dst=/a,ro", "source=vol,target=/b", "type=tmpfs,dst=/c,tmpfs-size=1m", "vol:/x:ro", "/a:/b:shared", "/a:/b:idmap", "/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var m Mounts
		_ = m.AddMount(s)
		_ = m.AddVolume(s)
		for _, b := range m.Binds {
			if b.Source == "" || b.Source[0] != '/' || len(b.Destination) < 2 || b.Destination[0] != '/' {
				t.Errorf("%q: %+v", s, b)
			}
		}
		for _, v := range m.Volumes {
			if len(v.Destination) < 2 || v.Destination[0] != '/' || v.Name != "" && ValidVolume(v.Name) != nil {
				t.Errorf("%q: %+v", s, v)
			}
		}
	})
}
