# Everything that a child inherits.
FROM conformance/tools
ENV BASE=base OTHER="two words"
LABEL from=base kept=yes
USER app
WORKDIR /srv/task
VOLUME /data
EXPOSE 80/tcp 53/udp
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-ec"]
HEALTHCHECK --interval=5s --retries=2 CMD true
ENTRYPOINT ["/entry"]
CMD ["serve"]
