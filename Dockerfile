FROM node:24-bookworm-slim
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --omit=optional
COPY bin bin
COPY server server
COPY migrations migrations
COPY db db
COPY policies policies
COPY examples examples
USER node
ENV NODE_ENV=production ROWHOUSE_HOST=0.0.0.0
EXPOSE 4000 4001
ENTRYPOINT ["node", "bin/rowhouse.mjs"]
CMD ["start"]
