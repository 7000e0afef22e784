# What most cases stand on: tools, a user, directories of several owners, and links.
FROM strata.internal/toolbox
COPY <<passwd <<group /etc/
root:x:0:0:root:/root:/bin/sh
app:x:1000:1001:App:/home/app:/bin/sh
passwd
root:x:0:
app:x:1001:
extra:x:2000:app
group
RUN <<EOF
mkdir -p /home/app /srv/owned /srv/tree/sub /srv/empty
echo lower > /srv/tree/a
echo lower > /srv/tree/sub/b
echo file > /srv/file
ln -s /srv/tree /srv/link
ln -s tree /srv/rel
ln -s /nowhere /srv/dangling
ln -s file /srv/filelink
ln -s ../../../../../../srv/tree /srv/escape
chown 1000:1001 /home/app /srv/owned
chmod 700 /srv/owned
EOF
