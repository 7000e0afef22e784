FROM conformance/tools
ONBUILD ENV TRIGGERED=yes
ONBUILD RUN echo trigger > /trigger
ONBUILD COPY hook /hook
ONBUILD WORKDIR /triggered
